"""The rule for displayable text equals its definition, character by character, for any text."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sigil.protocol.encoding.display_text import problem_of
from tests.vectors.generator import actions

SPECIAL = (
    "\u200c\u200d\ufe0e\ufe0f\u20e3\u0301\u0302\u094d\u0915\u09b0\u09cd\U00011315\U0001134d\u0628\u0645\u0627\u062f\ua872"
    "\u2764\U0001f468\U0001f3f3\U0001f3fd#*19a \u00a0\u2800\u3164\u00ad\u202e\n\x1b\ue000\ufdd0\u0378\U000e0041"
)
near = st.text(st.sampled_from(SPECIAL), max_size=12)
anything = st.text(st.characters(exclude_categories=()), max_size=12)


@settings(max_examples=400)
@example("8\ufe0f\u20e3\u094d\u200d")
@example("\U0001134d\u200d\U0001f468\ufe0e")
@example("\U0001f44d\U0001f3fd\u200c\u094d")
@given(st.one_of(near, anything, st.lists(near | anything, max_size=4).map("".join)))
def test_a_text_is_displayable_exactly_when_its_definition_says_so(text: str) -> None:
    assert (problem_of(text) is None) == actions.is_displayable(text)


@settings(max_examples=200)
@given(near, near)
def test_a_displayable_text_holds_nothing_that_moves_hides_or_reorders_text(left: str, right: str) -> None:
    text = left + right
    if problem_of(text) is None:
        assert not set(text) & set("\n\x1b\u202e\u00ad\u3164\ue000\ufdd0\u0378\U000e0041")
        assert set(text) - set(" \u00a0\u2800\u200c\u200d\ufe0e\ufe0f\u0301\u0302\u20e3")
