"""Real nginx and Caddy with the configuration of deploy/, in front of real services."""
