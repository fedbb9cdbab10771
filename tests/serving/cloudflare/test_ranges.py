"""Which lists may become Cloudflare's ranges."""

from __future__ import annotations

import pytest

from sigil.serving.cloudflare.ranges import EMBEDDED, MAX_LIST, UnusableList, read_lists
from tests.serving.cloudflare.lists_server import EMBEDDED_TEXT

IPV4, IPV6 = EMBEDDED_TEXT[4], EMBEDDED_TEXT[6]


def read(ipv4: str = IPV4, ipv6: str = IPV6) -> list[str]:
    return [str(network) for network in read_lists(ipv4.encode(), ipv6.encode())]


def test_the_published_lists_give_the_embedded_ranges() -> None:
    assert read_lists(IPV4.encode(), IPV6.encode()) == EMBEDDED
    assert read_lists(f"\n{IPV4}\r\n\r\n".encode(), f"{IPV6}\n".encode()) == EMBEDDED
    assert len(EMBEDDED) == 22


def test_the_order_of_the_lines_changes_nothing() -> None:
    assert read_lists("\n".join(reversed(IPV4.split())).encode(), IPV6.encode()) == EMBEDDED


def test_a_new_range_is_added_and_a_missing_one_removed() -> None:
    given = read(IPV4.replace("131.0.72.0/22", "104.28.0.0/15"))
    assert "104.28.0.0/15" in given
    assert "131.0.72.0/22" not in given


def test_ranges_that_are_split_or_joined_are_the_same_addresses() -> None:
    assert "104.16.0.0/14" in read(IPV4.replace("104.16.0.0/13", "104.16.0.0/14\n104.20.0.0/14"))


@pytest.mark.parametrize(
    "line",
    [
        "0.0.0.0/0", "128.0.0.0/1", "8.0.0.0/7", "8.0.0.0/8", "8.0.0.0/10",
        "10.0.0.0/16", "10.1.2.3/32", "172.30.53.0/24", "192.168.0.0/16", "127.0.0.1/32", "169.254.169.254/32",
        "100.64.0.0/10", "198.18.0.0/15", "192.0.2.0/24", "224.0.0.0/12", "255.255.255.255/32", "0.0.0.0/32",
        "100.64.0.0/11", "192.0.0.0/11",
        "2001:db8::/32", "::/0", "::1/128", "::ffff:0:0/96", "fc00::/7", "2400::/12", "2606:4700::/32",
    ],
)  # fmt: skip
def test_a_range_that_is_too_wide_or_not_public_rejects_the_whole_list(line: str) -> None:
    with pytest.raises(UnusableList):
        read(f"{IPV4}\n{line}")


@pytest.mark.parametrize(
    "line",
    [
        "::/0", "2000::/3", "2400::/12", "2400::/27", "::1/128", "::/128", "fc00::/32", "fe80::/64", "ff00::/32",
        "2001:db8::/32", "2002::/32", "2001::/32", "::ffff:1.2.3.0/120", "64:ff9b::/96", "104.16.0.0/13",
    ],
)  # fmt: skip
def test_the_same_for_ipv6(line: str) -> None:
    with pytest.raises(UnusableList):
        read(IPV4, f"{IPV6}\n{line}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!DOCTYPE html><html>the page of a captive portal</html>",
        f"{IPV4}\n<script>",
        f"{IPV4}\n104.16.0.0",
        f"{IPV4}\n104.16.0.1/13",
        f"{IPV4}\n104.16.0.0/255.248.0.0",
        f"{IPV4}\n104.16.0.0/33",
        f"{IPV4}\n104.016.0.0/13",
        f"{IPV4}\n１04.16.0.0/13",
        f"{IPV4}\n0x68.16.0.0/13",
        f"{IPV4}\n# comment",
        f"{IPV4},8.8.8.0/24",
    ],
)
def test_garbage_is_not_a_list(text: str) -> None:
    with pytest.raises(UnusableList):
        read(text)


def test_the_text_of_the_other_side_is_not_in_the_reason() -> None:
    with pytest.raises(UnusableList, match=r"^ips-v4 has a line that is not a range$"):
        read(f"{IPV4}\nhostile\x1b[31m")


def test_a_list_has_a_plausible_number_of_ranges_and_addresses() -> None:
    many = "\n".join(f"8.{number}.0.0/24" for number in range(200))
    with pytest.raises(UnusableList, match="215 lines"):
        read(f"{IPV4}\n{many}")
    with pytest.raises(UnusableList, match="far more addresses"):
        read("\n".join([IPV4, *(f"{number}.32.0.0/11" for number in (8, 20, 40, 50))]))
    with pytest.raises(UnusableList, match="far more addresses"):
        read(IPV4, "\n".join([IPV6, *(f"2a0{number:x}::/28" for number in range(8))]))
    with pytest.raises(UnusableList, match="larger than"):
        read(IPV4 + "\n" * MAX_LIST)


def test_a_list_of_other_addresses_is_not_cloudflares() -> None:
    with pytest.raises(UnusableList, match="lacks more than half"):
        read("8.8.8.0/24")
    with pytest.raises(UnusableList, match="lacks more than half"):
        read("\n".join(IPV4.split()[:4]))
    with pytest.raises(UnusableList, match="ips-v6 lacks more than half"):
        read(IPV4, "2606:4700::/32")
