"""The wire protocol, tested from outside against a running server. Nothing here imports the server's code; the phone for
tests of the software device stands for hardware that attests.
"""
