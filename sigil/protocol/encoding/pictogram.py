"""The pictogram of a fingerprint: five emoji that people recognise (docs/protocol.md, 2.2). Never authentication."""

from __future__ import annotations

from functools import lru_cache

_ROWS = """
🍎 apple     🍌 banana    🍇 grapes     🍊 orange     🍋 lemon      🍒 cherry      🍓 strawberry 🥝 kiwi
🥕 carrot    🌽 corn      🥦 broccoli   🍄 mushroom   🌶️ pepper     🥑 avocado     🧅 onion      🥜 peanut
🍕 pizza     🍔 burger    🌮 taco       🍩 donut      🍪 cookie     🍰 cake        🧁 cupcake    🍿 popcorn
🚗 car       🚕 taxi      🚌 bus        🚀 rocket     ✈️ plane      🚁 helicopter  ⛵ sailboat   🚲 bicycle
🐕 dog       🐈 cat       🐟 fish       🦋 butterfly  🐝 bee        🦊 fox         🦁 lion       🐘 elephant
🌲 tree      🌻 sunflower 🌵 cactus     🍀 clover     🌸 blossom    🌈 rainbow     ⭐ star       🌙 moon
🏠 house     ⛰️ mountain  🗻 peak       🌋 volcano    🏝️ island     🗿 moai        ⛺ tent       🏰 castle
🔑 key       🔔 bell      📚 books      🎸 guitar     ⚓ anchor     👑 crown       💎 diamond    🔥 fire
""".split()
_EMOJI, _NAMES = tuple(_ROWS[::2]), tuple(_ROWS[1::2])
TABLE = tuple(zip(_EMOJI, _NAMES, strict=True))
"""The 64 emoji and their names. `sigil/pages/pictograms/` has a drawing of each, named after it."""


# The same devices come back, and each answer of theirs contains the pictogram.
@lru_cache(maxsize=4096)
def _render(start: str) -> tuple[tuple[str, ...], str]:
    x = int(start, 16)
    indices = [(x >> (26 - 6 * i)) & 63 for i in range(5)]
    return tuple(_EMOJI[i] for i in indices), " ".join(_NAMES[i] for i in indices)


def pictogram(fingerprint: str) -> list[str]:
    """The five emoji of a 64-character fingerprint."""
    return list(_render(fingerprint[:8])[0])


def speakable(fingerprint: str) -> str:
    """The names of the five emoji, joined by single spaces."""
    return _render(fingerprint[:8])[1]
