from __future__ import annotations

import pytest

from tests.support.services import Services

from .steps import POLICY, EventfulServices


@pytest.fixture
def services() -> Services:
    return EventfulServices(enrolment_policy=POLICY)
