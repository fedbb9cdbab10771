"""Units of systemd as data, and their ExecStart run as the unit says, as far as that works without systemd as PID 1."""

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from types import TracebackType

from tests.support.live import DEADLINE
from tests.support.other_user import enterable

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
PROGRAMS = Path(sys.executable).parent
# The account of PostgreSQL in these tests, whose socket no other account reaches.
ACCOUNT = 65534
IS_ROOT = os.geteuid() == 0
_PR_SET_MDWE = 65
# MemoryDenyWriteExecute, by the kernel itself (Linux 6.3); systemd has a filter of system calls for it.
_DENY_WRITE_EXECUTE = (
    f"import ctypes, os, sys; ctypes.CDLL(None).prctl({_PR_SET_MDWE}, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
# ProtectSystem=strict: all read-only but the directories of the unit.
_MOUNTS = """
mount --make-rprivate /
mount --bind "$STATE" "$STATE"
mount -o remount,bind,ro /
exec "$@"
"""

Unit = dict[str, list[str]]


def unit(name: str, folder: Path = FOLDER) -> Unit:
    """All settings of all sections; one that is given twice has both values, and an empty value clears it."""
    values: Unit = defaultdict(list)
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values[key].append(value)
    return values


def environment(values: Unit) -> dict[str, str]:
    return dict(item.split("=", 1) for line in values["Environment"] for item in shlex.split(line))


def credentials(values: Unit) -> dict[str, str]:
    """The id of each, and its file."""
    return dict(line.split(":", 1) for line in values["LoadCredential"])


def as_account(command: list[str], account: int = ACCOUNT) -> list[str]:
    """As root: the command as another user, without capabilities and without a way to gain some."""
    if not IS_ROOT:
        return command
    user = [f"--reuid={account}", f"--regid={account}", "--clear-groups"]
    return enterable(["setpriv", *user, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", *command])


class UnitProcess:
    """A unit's ExecStart with its environment, credentials and limits; the directories of the unit are below `folder`.

    As root: as another user, without capabilities, and in a mount namespace with a read-only root.
    """

    def __init__(self, name: str, secrets: dict[str, str], settings: dict[str, str]) -> None:
        self.values = unit(name)
        # Not pytest's tmp_path, into which no other user can go.
        self.folder = Path(tempfile.mkdtemp(prefix="sigil-unit-"))
        self.folder.chmod(0o755)
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        # In memory, as /run.
        self.runtime = Path(tempfile.mkdtemp(prefix="sigil-unit-", dir="/dev/shm"))
        self.runtime.chmod(0o755)
        self.state = self.folder / "lib"
        for directory in (self.state, self.folder / "credentials"):
            directory.mkdir()
        for credential in credentials(self.values):
            file = self.folder / "credentials" / credential
            file.write_text(secrets[credential])
            file.chmod(0o400)
            self._give_away(file)
        for kind, parent in (("Runtime", self.runtime), ("State", self.state)):
            for directory in self.values[f"{kind}Directory"]:
                (parent / directory).mkdir(mode=int(self.values[f"{kind}DirectoryMode"][0], 8))
                self._give_away(parent / directory)
        self._give_away(self.folder / "credentials")
        self.environ = {
            "PATH": os.environ["PATH"],
            **{key: self._placed(value) for key, value in environment(self.values).items()},
            **settings,
        }

    def _placed(self, text: str) -> str:
        """Paths of a host that has the unit, as paths of this test."""
        text = text.replace("%d", str(self.folder / "credentials")).replace("/opt/sigil/bin", str(PROGRAMS))
        text = re.sub(r"^/run/", f"{self.runtime}/", text)
        return re.sub(r"^/var/lib/", f"{self.state}/", text)

    def _give_away(self, path: Path) -> None:
        if IS_ROOT:
            os.chown(path, ACCOUNT, ACCOUNT)

    def start(self) -> UnitProcess:
        command = shlex.split(self._placed(self.values["ExecStart"][0]))
        if self.values["MemoryDenyWriteExecute"] == ["yes"]:
            command = [sys.executable, "-c", _DENY_WRITE_EXECUTE, *command]
        command = as_account(command)
        if IS_ROOT:
            command = ["unshare", "--mount", "sh", "-eu", "-c", _MOUNTS, "sh", *command]
        command = ["prlimit", f"--nofile={self.descriptors}", *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self.environ | {"STATE": str(self.state)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                umask=int(self.values["UMask"][0], 8),
            )
        return self

    @property
    def descriptors(self) -> int:
        """LimitNOFILE, as far as this process may have it."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = int(self.values["LimitNOFILE"][0])
        return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)

    @property
    def pid(self) -> int:
        """Of the service itself: each program in front of it replaces itself by the next one."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        return self._process.pid

    def reload(self) -> None:
        """ExecReload."""
        (command,) = self.values["ExecReload"]
        subprocess.run(shlex.split(command.replace("$MAINPID", str(self.pid))), check=True, timeout=DEADLINE)

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE)

    def __enter__(self) -> UnitProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.runtime, ignore_errors=True)
