"""A Docker engine for one command, in network, mount and PID namespaces of its own.

`python -m tests.containers.engine COMMAND…` runs it. `__main__` stays on the host, `inside` is process 1 of the
namespaces, `parts` makes what no registry gives here: the root file system of the stand-in images, and Compose 2.
docs/decisions/0033-a-real-engine-in-tests.md has the reasons.
"""
