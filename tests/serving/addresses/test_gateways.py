"""The warning about a trusted range that holds the gateway: from tables of routes, and in a real network namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from sigil.serving.addresses.gateways import find_gateways, gateway_warnings
from sigil.serving.addresses.proxies import Proxies
from sigil.serving.settings import networks

IPV4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t{gateway}\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t{network}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
IPV6 = """\
fd000053000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000053000000000000000000000001 00000400 00000003 00000000 00000003     eth0
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000004 00000000 80200001       lo
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
"""  # noqa: E501 - columns of the kernel


def kernel_hex(address: str) -> str:
    return f"{int.from_bytes(ip_address(address).packed, sys.byteorder):08X}"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A container at 172.30.53.10 and fd00:53::10."""
    route = IPV4.format(gateway=kernel_hex("172.30.53.1"), network=kernel_hex("172.30.53.0"))
    (tmp_path / "route").write_text(route)
    (tmp_path / "ipv6_route").write_text(IPV6)
    return tmp_path


def warnings(tables: Path, trusted: str) -> list[str]:
    return gateway_warnings(Proxies(networks(trusted)), tables)


def test_the_gateways_of_both_families_are_found(tables: Path) -> None:
    assert find_gateways(tables) == [ip_address("172.30.53.1"), ip_address("fd00:53::1")]


@pytest.mark.parametrize("trusted", ["172.30.53.0/24", "172.30.0.0/16", "0.0.0.0/0", "172.30.53.1"])
def test_a_range_with_the_gateway_is_warned_about(tables: Path, trusted: str) -> None:
    (warning,) = warnings(tables, f"10.0.0.0/8,{trusted}")
    assert f"{networks(trusted)[0]} holds 172.30.53.1, the gateway of this process's network" in warning
    assert "List the exact address of your proxy alone" in warning


def test_a_range_with_the_ipv6_gateway_is_warned_about(tables: Path) -> None:
    (warning,) = warnings(tables, "fd00:53::/64")
    assert "fd00:53::/64 holds fd00:53::1" in warning


@pytest.mark.parametrize("trusted", ["172.30.53.2", "172.30.53.2/31", "10.0.0.0/8", "fd00:53::2", ""])
def test_other_ranges_are_not(tables: Path, trusted: str) -> None:
    assert warnings(tables, trusted) == []


def test_a_network_without_a_gateway_has_none(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(IPV4.splitlines()[0] + "\n")
    (tmp_path / "ipv6_route").write_text(IPV6.splitlines()[0] + "\n")
    assert find_gateways(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"eth0 0 zz 3\n", b"a b c zzzz\n", b"x " * 9, b"0\t" * 100_000])
def test_a_table_that_cannot_be_parsed_is_skipped(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "route").write_bytes(content)
    (tmp_path / "ipv6_route").write_bytes(content)
    assert find_gateways(tmp_path) == []


def test_a_system_without_tables_has_no_gateways(tmp_path: Path) -> None:
    assert find_gateways(tmp_path / "nowhere") == []


_NETWORK = """
set -e
ip link set lo up
ip link add edge type veth peer name other
ip link set edge up
ip link set other up
ip addr add 172.30.99.10/24 dev edge
ip route add default via 172.30.99.1
exec "$@"
"""


def in_a_network(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a network namespace of its own, whose gateway is 172.30.99.1."""
    isolated = ["unshare", "--net", "sh", "-c", _NETWORK, "sh", *command]
    return subprocess.run(isolated, env=os.environ | environ, capture_output=True, text=True, timeout=120, check=False)


def _can_isolate() -> bool:
    return bool(shutil.which("unshare") and shutil.which("ip")) and in_a_network("true").returncode == 0


@pytest.mark.skipif(not _can_isolate(), reason="a network namespace needs root, unshare and ip")
@pytest.mark.parametrize("module", ["sigil", "relay"])
def test_both_services_warn_in_a_real_network(module: str, tmp_path: Path) -> None:
    command = (sys.executable, "-m", module, "check-config")
    base = {
        "SIGIL_MODE": "init",
        "SIGIL_STATE_DIR": str(tmp_path / "state"),
        "SIGIL_STATE_DIR_INSECURE": "true",
        "RELAY_DATA_DIR": str(tmp_path),
    }
    base |= {"TLS_CERT_PATH": str(tmp_path / "cert.pem"), "TLS_KEY_PATH": str(tmp_path / "key.pem")}
    warned = in_a_network(*command, **base, TRUSTED_PROXY_CIDR="172.30.99.0/24")
    assert warned.returncode == 0, warned.stderr
    assert "172.30.99.0/24 holds 172.30.99.1, the gateway of this process's network" in warned.stderr
    exact = in_a_network(*command, **base, TRUSTED_PROXY_IP="172.30.99.2")
    assert (exact.returncode, exact.stderr) == (0, "")
