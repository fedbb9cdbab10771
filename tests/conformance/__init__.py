"""The wire protocol, tested from outside against a running server.

Nothing here imports the server's code. The software device's phone for tests stands for hardware that attests.
"""
