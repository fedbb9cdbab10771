"""Variables of the environment, by the rule for text that a person wrote."""

from __future__ import annotations

import os

from sigil.protocol.encoding.plain_text import NotPlainText, check


def variable(name: str) -> str:
    """Its value without the blanks around it, "" if it is not set; NotPlainText, whose message is a sentence."""
    try:
        return check(os.environ.get(name, ""))
    except NotPlainText as error:
        fault = f"{name} {error}."
    raise NotPlainText(fault)
