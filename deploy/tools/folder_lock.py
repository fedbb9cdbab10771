"""A folder that one program at a time uses: a second one would replace its files. Standard library alone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_TRIES = 100


def lock_folder(program: str, folder: Path) -> int:
    """The descriptor that holds the lock of the folder, which is created. Exits if another `program` holds it.

    The services that the program starts inherit the descriptor: the folder stays locked until they have ended too, also
    if the program was killed.
    """
    for _ in range(_TRIES):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # the other one removed the folder in between
        except OSError as error:
            raise SystemExit(f"{program}: it needs the directory {folder}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        except BlockingIOError:
            raise SystemExit(f"{program}: another `{program}` uses {folder}; stop it first") from None
        except FileNotFoundError:
            pass
        # The other one removed the folder between our open and our lock.
        os.close(handle)
    raise SystemExit(f"{program}: another program removes {folder} again and again")
