"""How log lines leave the process: redaction, one writer, the form for a terminal, and what others write to stderr."""
