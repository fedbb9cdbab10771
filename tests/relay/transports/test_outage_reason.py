"""Which reasons of a provider's outage are logged."""

from __future__ import annotations

from relay.transports.outage_reason import AGAIN_SECONDS, OutageReason
from tests.support.services import Clock


def test_the_first_reason_and_each_change_are_logged_at_most_once_a_minute() -> None:
    clock = Clock()
    outage = OutageReason(clock)
    assert [outage.is_news(reason) for reason in ("refused", "refused", "certificate")] == [True, False, False]
    clock.now += AGAIN_SECONDS
    assert [outage.is_news(reason) for reason in ("refused", "certificate", "certificate")] == [False, True, False]
    assert [outage.ended(), outage.ended()] == [True, False]
    assert outage.is_news("certificate")
