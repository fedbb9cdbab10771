"""Tools of development: `make dev`, `make wizard`, `make audit`, and what writes generated files."""
