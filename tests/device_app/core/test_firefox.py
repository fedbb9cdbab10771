"""A real Firefox, with another WebCrypto and other regular expressions, gives the vectors the same results."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import firefox

from . import expectations
from .modules import RUN, StaticFiles


def test_every_vector_gives_the_result_of_python_in_firefox(files: StaticFiles) -> None:
    if firefox.executable() is None:
        pytest.skip("there is no Firefox: `make test-deps` installs it")
    with firefox.Firefox({}) as browser:
        browser.navigate(files.url)

        def judge(kind: str, cases: list[Any]) -> list[Any]:
            outcomes: list[Any] = browser.evaluate(f"return await ({RUN})(arguments[0])", [kind, cases])
            return outcomes

        assert {kind: found for kind, run in expectations.ALL.items() if (found := run(judge))} == {}
