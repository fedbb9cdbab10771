"""The rules of the state directory: every error is one line that names the setting to change."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sigil.core.session_store import Decision, Key, Kind
from sigil.store import state_directory as directory_module
from sigil.store.adoption import NO_SERVER, Stamp
from sigil.store.lmdb import DATA_FILE, LmdbStore
from sigil.store.memory_limits import PROCESS_MEMORY, MemoryLimits
from sigil.store.state_directory import StateDirectory, StateDirectoryError, file_system

MiB = 1 << 20
STORE_FILES = {"lock", "stamp", "data.mdb", "lock.mdb", "clock"}


class Unbounded(MemoryLimits):
    """The host of the tests may have a memory limit of its own."""

    def memory_limit(self) -> int | None:
        return None


@pytest.fixture
def path(memory_directory: Path) -> Path:
    return memory_directory / "state"


def enter(
    path: Path, *, insecure: bool = True, schema: str = "1", server_id: str = "abc", **options: Any
) -> StateDirectory:
    state = StateDirectory.enter(path, insecure=insecure)
    try:
        state.prepare_store(stamp=Stamp(schema, server_id), **{"size": MiB, "limits": Unbounded()} | options)
    except BaseException:
        state.close()
        raise
    return state


def error_of(path: Path, **options: Any) -> str:
    with pytest.raises(StateDirectoryError) as caught:
        enter(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def run(path: Path, **options: Any) -> tuple[bool, str]:
    """One run of a server: enter the directory, open the store once, leave."""
    with enter(path, **options) as state:
        LmdbStore(path, size=options.get("size", MiB), kinds=[], clock=float).close()
        return state.adopted, state.reason


def test_a_new_directory_is_open_to_its_owner_only(path: Path) -> None:
    assert run(path) == (False, "there was no store")
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in path.iterdir()} == STORE_FILES
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())


def test_a_directory_without_a_parent_is_rejected(path: Path) -> None:
    message = error_of(path / "below")
    assert message == (
        f"SIGIL_STATE_DIR {path}/below cannot be used: its parent directory does not exist: create it, or set "
        "SIGIL_STATE_DIR to a directory that belongs to the server alone"
    )


def test_an_error_of_the_system_names_the_directory_once(path: Path) -> None:
    path.write_text("a file")
    message = error_of(path / "below")
    assert message.startswith(f"SIGIL_STATE_DIR {path}/below cannot be used: Not a directory; or set SIGIL_STATE_DIR")


def test_a_symbolic_link_is_rejected(path: Path, memory_directory: Path) -> None:
    target = memory_directory / "target"
    target.mkdir(0o700)
    path.symlink_to(target)
    assert "SIGIL_STATE_DIR" in (message := error_of(path))
    assert "is a symbolic link" in message
    assert list(target.iterdir()) == []


def test_a_file_in_place_of_the_directory_is_rejected(path: Path) -> None:
    path.touch()
    assert "is not a directory" in error_of(path)


def test_a_directory_of_another_user_is_rejected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert f"SIGIL_STATE_DIR {path} belongs to uid {os.getuid()}" in error_of(path)


@pytest.mark.parametrize("mode", [0o750, 0o710, 0o701, 0o720, 0o702, 0o704])
def test_a_directory_open_to_other_users_is_rejected(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    assert "chmod it to 0700" in error_of(path)


def test_no_text_suggests_another_mode_or_owner_for_a_directory_of_the_system(path: Path) -> None:
    shared = f"belongs to all programs of this host; set SIGIL_STATE_DIR to a new directory in it, such as {path}/sigil"
    path.mkdir()
    path.chmod(0o1777)
    assert error_of(path) == f"SIGIL_STATE_DIR {path} {shared}"
    for directory in filter(Path.is_dir, map(Path, ("/dev/shm", "/tmp", "/run"))):
        error = error_of(directory)
        assert "belongs to all programs" in error, error
        assert "chmod" not in error
        assert "chown" not in error


def test_a_private_directory_is_accepted_wherever_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a tmpfs that is mounted with mode=1700, at a place of the system such as /srv."""
    path.mkdir()
    path.chmod(0o1700)
    monkeypatch.setattr(directory_module, "is_of_system", lambda _: True)
    StateDirectory.enter(path, insecure=True).close()


def test_a_parent_in_which_other_users_can_replace_it_is_rejected(path: Path, memory_directory: Path) -> None:
    memory_directory.chmod(0o777)
    assert "replaced by other users" in error_of(path)
    memory_directory.chmod(0o1777)
    assert run(path) == (False, "there was no store")


def test_a_directory_on_disk_is_rejected_unless_insecure_is_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "file_system", lambda directory: 0xEF53)
    assert "SIGIL_STATE_DIR_INSECURE=true" in error_of(path, insecure=False)
    assert run(path, insecure=True)[0] is False


def test_a_directory_on_tmpfs_needs_no_setting(tmpfs_directory: Path) -> None:
    assert run(tmpfs_directory / "state", insecure=False)[0] is False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_file_system_returns_the_f_type() -> None:
    proc = os.open("/proc", os.O_RDONLY)
    try:
        assert file_system(proc) == 0x9FA0
    finally:
        os.close(proc)


def test_a_second_server_on_the_same_directory_is_rejected(path: Path) -> None:
    with enter(path):
        assert "another server is using SIGIL_STATE_DIR" in error_of(path)
    run(path)


def test_a_rejected_second_server_wipes_nothing(path: Path) -> None:
    with enter(path):
        LmdbStore(path, size=MiB, kinds=[], clock=float).close()
        error_of(path, server_id="other")
        assert {file.name for file in path.iterdir()} == STORE_FILES
    assert run(path) == (True, "")


def test_the_lock_is_not_inherited(path: Path) -> None:
    command = [sys.executable, "-c", "print('running', flush=True); input()"]
    with (
        enter(path) as state,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child,
    ):
        # Only a line from the child proves that its exec has closed the descriptors that it does not inherit.
        assert child.stdout is not None
        assert child.stdout.readline() == b"running\n"
        state.close()
        assert run(path) == (True, "")
        child.communicate(b"\n")


def test_a_second_close_is_no_error(path: Path) -> None:
    state = enter(path)
    state.close()
    state.close()


def test_a_lock_that_is_a_link_is_rejected(path: Path, memory_directory: Path) -> None:
    path.mkdir(0o700)
    (path / "lock").symlink_to(memory_directory / "elsewhere")
    assert "SIGIL_STATE_DIR" in error_of(path)
    assert not (memory_directory / "elsewhere").exists()


def test_a_store_larger_than_its_file_system_is_rejected(path: Path) -> None:
    message = error_of(path, size=1 << 60)
    assert "SIGIL_STORE_SIZE" in message
    assert "file system" in message


def test_the_bytes_of_an_earlier_map_count_as_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(path)
    with (path / DATA_FILE).open("r+b") as file:
        file.write(file.read().ljust(MiB, b"\0"))
        os.fsync(file.fileno())
    free = os.statvfs(path)
    none_left = os.statvfs_result((*free[:4], 0, *free[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda directory: none_left)
    assert run(path, size=MiB) == (True, "")
    assert "file system" in error_of(path, size=8 * MiB)


def test_a_file_system_without_a_limit_takes_any_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fstatvfs", lambda directory: os.statvfs_result((4096, 4096, *[0] * 8)))
    assert run(path)[0] is False


def test_a_store_larger_than_the_file_size_limit_is_rejected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (MiB - 1, MiB))
    message = error_of(path)
    assert "SIGIL_STORE_SIZE" in message
    assert "ulimit -f" in message


def groups(root: Path, membership: str, **limits: str) -> MemoryLimits:
    """A host whose control groups have limits; `__` in a name means a slash, and the last part is the file."""
    for name, text in limits.items():
        file = root.joinpath(*name.replace("max", "memory.max").split("__"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (root / "membership").write_text(membership)
    return MemoryLimits(root / "membership", root)


def test_a_store_larger_than_the_memory_limit_is_rejected(path: Path, tmp_path: Path) -> None:
    """Each worker needs memory of its own: with many of them, the limit would end the server at its start."""
    limits = groups(tmp_path, "0::/a\n", a__max=str(MiB + 9 * PROCESS_MEMORY))
    for too_much in ({"size": MiB + 1, "workers": 8}, {"size": MiB, "workers": 9}):
        message = error_of(path, limits=limits, **too_much)
        assert "SIGIL_STORE_SIZE" in message
        assert "memory limit" in message
    assert run(path, size=MiB, workers=8, limits=limits)[0] is False


def test_the_lowest_limit_of_a_group_and_its_parents_counts(tmp_path: Path) -> None:
    limits = groups(tmp_path, "0::/a/b/c\n", max="900", a__max="500", a__b__max="max", a__b__c__max="700")
    assert limits.memory_limit() == 500


def test_a_limit_of_another_group_does_not_count(tmp_path: Path) -> None:
    assert groups(tmp_path, "0::/a\n", a__max="max", b__max="5").memory_limit() is None


@pytest.mark.parametrize("membership", ["0::/../../other\n", "0::/../other\n", "0::/not/mounted/here\n", "0::/\n"])
def test_a_container_with_the_path_of_its_host_reads_its_own_root(tmp_path: Path, membership: str) -> None:
    assert groups(tmp_path, membership, max="700", other__max="5").memory_limit() == 700


def test_limits_of_control_groups_version_1_count(tmp_path: Path) -> None:
    limits = groups(tmp_path, "9:name=systemd:/x\n4:cpu,memory:/a/b\n0::/\n")
    for name, limit in [("memory/a/b", "9223372036854771712"), ("memory/a", "600")]:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "memory.limit_in_bytes").write_text(limit)
    assert limits.memory_limit() == 600


def test_a_host_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert MemoryLimits(tmp_path / "absent", tmp_path).memory_limit() is None


def test_a_restart_adopts_the_store_of_the_same_server(path: Path) -> None:
    assert run(path)[0] is False
    inode = (path / DATA_FILE).stat().st_ino
    assert run(path) == (True, "")
    assert (path / DATA_FILE).stat().st_ino == inode


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"schema": "2"}, "its schema was '1', not '2'"), ({"server_id": "xyz"}, "it was the store of server 'abc'")],
)
def test_another_schema_or_server_wipes_the_store(path: Path, change: dict[str, str], reason: str) -> None:
    run(path)
    inode = (path / DATA_FILE).stat().st_ino
    assert run(path, **change) == (False, reason)
    assert (path / DATA_FILE).stat().st_ino != inode
    assert run(path, **change) == (True, "")


def test_a_store_of_no_server_is_wiped_unless_adopt_unowned_is_set(path: Path) -> None:
    run(path, server_id=NO_SERVER)
    assert run(path, server_id=NO_SERVER) == (False, "the server has no identity yet")
    assert run(path, server_id="abc", adopt_unowned=True) == (True, "")
    assert run(path, server_id="abc") == (True, ""), "the stamp names the server from then on"
    assert run(path, server_id="another", adopt_unowned=True) == (False, "it was the store of server 'abc'")
    run(path, server_id=NO_SERVER)
    assert run(path, server_id="abc") == (False, "it was the store of server ''")


async def test_a_wiped_store_is_empty(path: Path) -> None:
    kind = Kind(b"t", directory_module.Stamp)
    with enter(path):
        store = LmdbStore(path, size=MiB, kinds=[kind], clock=float)
        await store.transact([], lambda now, rows: Decision(None, ended=(b"e",)))
        store.close()
    with enter(path, server_id="other"):
        store = LmdbStore(path, size=MiB, kinds=[kind], clock=float)
        assert await store.get(Key(kind, b"a")) is None
        assert (await store.read_end_log(None)).position == 0
        store.close()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema":"1"}', b"\xff", b'"' + b"x" * 9000])
def test_a_stamp_that_cannot_be_read_wipes_the_store(path: Path, text: bytes) -> None:
    run(path)
    (path / "stamp").write_bytes(text)
    assert run(path) == (False, "its stamp could not be read")


def test_a_start_after_a_crash_during_a_wipe_wipes_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(path)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            enter(path, server_id="other")
    # The server of the earlier run must not adopt what the incomplete wipe left.
    assert not (path / "stamp").exists()
    assert run(path) == (False, "there was no store")
    assert json.loads((path / "stamp").read_text()) == {"schema": "1", "server_id": "abc"}


def test_a_wipe_also_removes_the_given_entries_and_keeps_all_others(path: Path) -> None:
    run(path)
    for name in ("metrics", "kept-directory"):
        (path / name).mkdir()
        (path / name / "file").touch()
    for name in ("token", "kept"):
        (path / name).touch()
    wiped = frozenset({"metrics", "token", "absent"})
    assert run(path, also_wiped=wiped) == (True, "")
    assert (path / "metrics" / "file").exists()
    assert run(path, also_wiped=wiped, schema="2")[0] is False
    assert {file.name for file in path.iterdir()} == STORE_FILES | {"kept", "kept-directory"}
    assert (path / "kept-directory" / "file").exists()


def test_a_wipe_removes_a_link_and_not_its_target(path: Path, memory_directory: Path) -> None:
    run(path)
    precious = memory_directory / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (path / DATA_FILE).unlink()
    (path / DATA_FILE).symlink_to(precious / "file")
    (path / "metrics").symlink_to(precious)
    run(path, schema="2", also_wiped=frozenset({"metrics"}))
    assert (precious / "file").exists()
    assert not (path / "metrics").exists()


def test_a_corrupt_store_is_wiped_with_a_reason(path: Path) -> None:
    run(path)
    (path / DATA_FILE).write_bytes(b"x" * 8192)
    adopted, reason = run(path)
    assert not adopted
    assert reason.startswith("it could not be opened")
    assert run(path) == (True, "")


@pytest.mark.parametrize("length", [0, 100, 4096])
def test_a_store_without_its_first_pages_is_wiped(path: Path, length: int) -> None:
    run(path)
    os.truncate(path / DATA_FILE, length)
    adopted, reason = run(path)
    assert not adopted
    assert reason.startswith("it could not be opened")


def test_a_store_without_its_last_pages_is_wiped(path: Path) -> None:
    run(path)
    os.truncate(path / DATA_FILE, 3 * os.sysconf("SC_PAGE_SIZE"))
    assert run(path) == (False, "its file was truncated")


def test_a_store_with_corrupt_pages_is_wiped(path: Path) -> None:
    run(path)
    with (path / DATA_FILE).open("r+b") as file:
        file.seek(8192)
        file.write(bytes(MiB - 8192))
    adopted, reason = run(path)
    assert not adopted
    assert reason.startswith("it could not be opened")
    assert run(path) == (True, "")


def test_a_stamp_without_a_store_starts_an_empty_store(path: Path) -> None:
    enter(path).close()
    (path / DATA_FILE).unlink()
    assert run(path) == (False, "there was no store")
