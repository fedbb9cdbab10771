"""The error for a server that cannot start."""


class StartupError(Exception):
    """One line for the operator, without secrets: the fault and its place. The command prints it and exits with 1.

    A `reload` callable raises it too: the line is then logged, and the server keeps its settings.
    """
