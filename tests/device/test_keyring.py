"""Key files are readable only by their owner, complete or absent, and never quoted when they are damaged."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from sigil.device import ServerPin
from sigil.device.errors import AlreadyRegistered, DeviceError, KeyFileExposed, KeyFileUnusable, NotRegistered
from sigil.device.http.tls import TlsTrust
from sigil.device.keyring import Keyring, Registration
from sigil.device.timestamps import FileTimestamps, MemoryTimestamps
from sigil.protocol.keys import SUITES, Suite
from tests.device.clock import MovingClock
from tests.device.fake_server import NOW, identity

URL = "https://auth.example.com:8443"


def pin(url: str = URL) -> ServerPin:
    own = identity()
    return ServerPin(
        base_url=url,
        server_id=own.server_id,
        server_public_keys=own.server_public_keys,
        server_name="x",
        tls=TlsTrust(sha256="ab" * 32),
    )


@pytest.fixture
def keyring(home: Path) -> Keyring:
    return Keyring(home)


def key_file(home: Path) -> Path:
    (file,) = home.glob("*.json")
    return file


@pytest.mark.parametrize("suite", SUITES)
def test_a_registration_is_loaded_as_it_was_created(keyring: Keyring, suite: Suite) -> None:
    made = keyring.create(pin(), suite)
    found = keyring.load(URL)
    assert (found.server, found.device.public) == (pin(), made.device.public)
    assert found.device.suite == suite


def test_files_are_0600_in_a_directory_of_0700_and_nothing_else_is_left(keyring: Keyring, home: Path) -> None:
    keyring.create(pin(), "ES256")
    keyring.create(pin(), "ES256", replace=True)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(key_file(home).stat().st_mode) == 0o600
    assert list(home.iterdir()) == [key_file(home)]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_file_that_other_users_can_reach_is_rejected(keyring: Keyring, home: Path, mode: int) -> None:
    keyring.create(pin(), "ES256")
    key_file(home).chmod(mode)
    with pytest.raises(KeyFileExposed, match="chmod 600"):
        keyring.load(URL)


def test_a_directory_that_other_users_can_reach_is_neither_read_nor_written(keyring: Keyring, home: Path) -> None:
    keyring.create(pin(), "ES256")
    home.chmod(0o755)
    with pytest.raises(KeyFileExposed, match="chmod 700"):
        keyring.load(URL)
    with pytest.raises(KeyFileExposed, match="chmod 700"):
        keyring.create(pin("https://b.example"), "ES256")


def test_a_symbolic_link_is_not_followed(keyring: Keyring, home: Path, tmp_path: Path) -> None:
    keyring.create(pin(), "ES256")
    file = key_file(home)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        keyring.load(URL)


def test_a_directory_in_place_of_a_key_file_is_rejected(keyring: Keyring, home: Path) -> None:
    keyring.create(pin(), "ES256")
    file = key_file(home)
    file.unlink()
    file.mkdir(mode=0o700)
    with pytest.raises(KeyFileUnusable):
        keyring.load(URL)


@pytest.mark.parametrize("damage", ["cut", "suite", "key", "server", "bytes"])
def test_the_error_for_a_damaged_file_quotes_nothing_from_it(keyring: Keyring, home: Path, damage: str) -> None:
    keyring.create(pin(), "Ed25519")
    file = key_file(home)
    text = file.read_text()
    private = json.loads(text)["private_key"]
    file.write_bytes(
        {
            "cut": text[:-5],
            "suite": text.replace('"Ed25519"', '"RS256"', 1),
            "key": text.replace(private, private[4:]),
            "server": text.replace(":8443", ":8444"),
            "bytes": "\udcff" + text,
        }[damage].encode("utf-8", "surrogateescape")
    )
    with pytest.raises(KeyFileUnusable) as refused:
        keyring.load(URL)
    assert private[4:] not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_registration_and_its_parts_print_no_key(keyring: Keyring, home: Path) -> None:
    made = keyring.create(pin(), "ES256")
    private = json.loads(key_file(home).read_text())["private_key"]
    assert private not in repr(made) + repr(vars(made.device))


def test_a_second_registration_needs_replace(keyring: Keyring) -> None:
    first = keyring.create(pin(), "ES256")
    with pytest.raises(AlreadyRegistered):
        keyring.create(pin(), "ES256")
    assert keyring.load(URL).device.public == first.device.public
    second = keyring.create(pin(), "ES256", replace=True)
    assert keyring.load(URL).device.public == second.device.public != first.device.public


def test_of_many_concurrent_creations_one_succeeds_and_the_others_fail(keyring: Keyring) -> None:
    barrier = Barrier(8)

    def contend(_: int) -> Registration | DeviceError:
        barrier.wait()
        try:
            return keyring.create(pin(), "ES256")
        except AlreadyRegistered as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(contend, range(8)))
    (winner,) = (end for end in ended if isinstance(end, Registration))
    assert keyring.load(URL).device.public == winner.device.public


def test_each_server_has_its_own_key_and_is_found_by_its_address(keyring: Keyring) -> None:
    assert keyring.known() == []
    urls = ["http://[::1]:8080", "https://a.example", "https://a.example:8443"]
    keys = {keyring.create(pin(url), "ES256").device.fingerprint for url in urls}
    assert keyring.known() == urls
    assert len(keys) == 3


def test_a_forgotten_server_is_no_longer_known(keyring: Keyring, home: Path, clock: MovingClock) -> None:
    keyring.create(pin(), "ES256")
    keyring.timestamps(URL, clock, clock.sleep)()
    keyring.forget(URL)
    assert list(home.iterdir()) == []
    for attempt in (keyring.load, keyring.forget):
        with pytest.raises(NotRegistered):
            attempt(URL)


@pytest.mark.parametrize("cleaned", ["forget", "enrolling"])
def test_what_a_killed_process_left_half_written_is_deleted(keyring: Keyring, home: Path, cleaned: str) -> None:
    keyring.create(pin(), "ES256")
    left, written_now = home / ".new-0123456789abcdef", home / ".new-fedcba9876543210"
    for path in (left, written_now):
        path.write_text('{"private_key":')
    os.utime(left, (0, 0))
    if cleaned == "forget":
        keyring.forget(URL)
    else:
        with keyring.enrolling():
            """It cleans when it begins."""
    assert not left.exists()
    assert written_now.exists(), "another process may be writing it"


def test_no_timestamp_is_used_twice_by_two_users_of_a_file(home: Path, clock: MovingClock) -> None:
    home.mkdir(mode=0o700)
    one, two = (FileTimestamps(home / "x.second", clock, clock.sleep) for _ in range(2))
    assert [one(), two(), one(), two()] == [int(NOW) + i for i in range(4)]
    assert clock.slept == [0.5, 1.0, 1.0]
    assert stat.S_IMODE((home / "x.second").stat().st_mode) == 0o600


def test_no_timestamp_is_used_twice_from_memory(clock: MovingClock) -> None:
    seconds = MemoryTimestamps(clock, clock.sleep)
    assert [seconds(), seconds()] == [int(NOW), int(NOW) + 1]


def test_a_clock_that_was_set_back_is_not_waited_for(home: Path, clock: MovingClock) -> None:
    home.mkdir(mode=0o700)
    seconds = FileTimestamps(home / "x.second", clock, clock.sleep)
    seconds()
    clock.now -= 3600
    assert seconds() == int(clock.now)
    assert clock.slept == []


def test_a_damaged_timestamp_file_is_started_again(home: Path, clock: MovingClock) -> None:
    home.mkdir(mode=0o700)
    (home / "x.second").write_bytes(b"\xff" * 9)
    assert FileTimestamps(home / "x.second", clock, clock.sleep)() == int(NOW)
