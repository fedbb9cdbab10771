"""File descriptors that a spawned process receives."""

from multiprocessing.reduction import DupFd


class KeptOpen:
    """File descriptors that keep their numbers in the spawned process that receives this object."""

    def __init__(self, *fds: int) -> None:
        self.fds = fds

    def __getstate__(self) -> dict[str, object]:
        for fd in self.fds:
            DupFd(fd)
        return {"fds": self.fds}
