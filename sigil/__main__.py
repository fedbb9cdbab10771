"""`python -m sigil` is the `sigil` command."""

from sigil.cli import main

if __name__ == "__main__":
    main()
