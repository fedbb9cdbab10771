"""Why a server does not start, in a form that may be printed."""


class StartupError(Exception):
    """One line for the operator, without secrets: what is wrong and where. The command prints it and exits with 1.

    A `reload` callable raises it too; the line is then logged and the server goes on as it was.
    """
