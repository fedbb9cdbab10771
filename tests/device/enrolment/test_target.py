"""What a person scans, pastes or types."""

from __future__ import annotations

import pytest

from sigil.device.enrolment.errors import LinkForeign, ServerNeeded, TargetUnusable
from sigil.device.enrolment.target import parse_target
from sigil.device.errors import AddressRefused
from tests.device.enrolment.offers import LINK, OWN, TARGET, TOKEN, URL


def test_a_link_names_its_server_and_its_token() -> None:
    assert parse_target(f" {LINK}\n") == TARGET
    # What a person gave beside it says the same.
    assert parse_target(LINK, f"{URL}/", OWN.server_id) == TARGET


@pytest.mark.parametrize("typed", ["7k3m-q9xp-2rtb", "7K3M Q9XP 2RTB", f" {TOKEN} ", "7-K-3-MQ9XP2RTB"])
def test_a_typed_token_is_read_however_it_is_typed(typed: str) -> None:
    target = parse_target(typed, URL, OWN.server_id)
    assert (target.token, target.base_url, target.from_link) == (TOKEN, URL, False)


def test_a_typed_token_needs_its_server() -> None:
    with pytest.raises(ServerNeeded, match="--server"):
        parse_target(TOKEN)
    with pytest.raises(AddressRefused):
        parse_target(TOKEN, "ftp://auth.example.com")


@pytest.mark.parametrize("text", ["", "https://auth.example.com", TOKEN[:-1], f"{TOKEN}U", LINK[:-1], LINK + "&x=1"])
def test_what_is_neither_link_nor_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(TargetUnusable) as refused:
        parse_target(text, URL)
    assert TOKEN[:8] not in refused.value.message


def test_a_link_of_another_server_than_the_options_name_is_refused() -> None:
    with pytest.raises(LinkForeign, match="evil"):
        parse_target(LINK, "https://evil.example")
    with pytest.raises(LinkForeign, match="--pin"):
        parse_target(LINK, None, "ab" * 32)


def test_a_target_does_not_print_its_token() -> None:
    assert TOKEN not in repr(TARGET)
