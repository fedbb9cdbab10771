"""The text of an error about a file or directory: which user the process is, what denies the access, and the mend."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_SYSTEM_DIRECTORIES = frozenset(
    map(
        Path,
        "/ /bin /boot /dev /dev/shm /etc /home /lib /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp /usr "
        "/usr/local /var /var/cache /var/lib /var/log /var/run /var/spool /var/tmp".split(),
    )
)
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")


def file_error(action: str, path: Path | str, error: OSError) -> str:
    """`cannot {action} {path}: {reason}`; `action` is "read" or a verb that needs write access. One line."""
    return f"cannot {action} {path}: {reason_of(action, path, error)}"


def reason_of(action: str, path: Path | str, error: OSError) -> str:
    """Only the part after the colon."""
    path = Path(path)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return _denied(action, path)
    if error.errno == errno.EISDIR:
        return (
            "it is a directory, and a file is expected: a container engine makes a directory of a bind mount whose "
            "source is missing: remove that directory on the host, create the file, then create the container again"
        )
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"it links to {path.readlink()}, which does not exist here: mount that too, or use a file, not a link"
    if error.errno == errno.EROFS:
        return "the file system is read-only: mount a writable volume there, or choose another path"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{error.strerror}: free some space there, or choose another path"
    return error.strerror or str(error)


def _denied(action: str, path: Path) -> str:
    user = os.geteuid()
    text = f"permission denied for uid {user}"
    # Through links: the target's directories count.
    target = Path(os.path.realpath(path))
    closed = _closed_directory(target)
    needed = "r" if action == "read" else "w"
    blocking = closed or _existing(target)
    try:
        status = blocking.stat()
    except OSError:
        return text
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
    named = "" if blocking == path else f" {blocking}:"
    text += f" ({kind}{named} owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o})"
    if closed is not None:
        return f"{text}: let that user enter the directory, or put the file into another one"
    if _mode_allows(status, needed):
        return f"{text}: the mode allows it, so SELinux or AppArmor denies it: with SELinux add :Z to the mount"
    if is_of_system(blocking):
        return f"{text}: use a directory of that user, such as `sudo install -d -o {user} NEW_DIRECTORY` makes"
    if blocking not in {target, target.parent} and not _in_container():
        return f"{text}: sudo install -d -o {user} {target.parent}"
    place = f"<that {kind} on the host>" if _in_container() else str(blocking)
    if status.st_uid == user:
        return f"{text}: chmod u+{'rwx' if kind == 'directory' else 'rw'[: 1 + (needed == 'w')]} {place}"
    return f"{text}: sudo chown {user} {place}"


def is_of_system(directory: Path) -> bool:
    """Whether other programs use it: no text may suggest another owner or mode for it."""
    return directory in _SYSTEM_DIRECTORIES


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def _closed_directory(path: Path) -> Path | None:
    """The first directory on the way to `path` that this user may not enter."""
    for directory in reversed(path.parents):
        try:
            if not _mode_allows(directory.stat(), "x"):
                return directory
        except OSError:
            return None
    return None


def _mode_allows(status: os.stat_result, needed: str) -> bool:
    """By owner, group and mode alone, as the kernel decides without capabilities."""
    bit = {"r": 4, "w": 2, "x": 1}[needed]
    if status.st_uid == os.geteuid():
        bit <<= 6
    elif status.st_gid in {os.getegid(), *os.getgroups()}:
        bit <<= 3
    return bool(status.st_mode & bit)


def _in_container() -> bool:
    return any(Path(mark).exists() for mark in _CONTAINER_MARKS)
