"""Five emoji of a fingerprint, for people to recognise (docs/protocol.md, 2.2); never authentication."""

from __future__ import annotations

_TABLE = """
🍎 apple     🍌 banana    🍇 grapes     🍊 orange     🍋 lemon      🍒 cherry      🍓 strawberry 🥝 kiwi
🥕 carrot    🌽 corn      🥦 broccoli   🍄 mushroom   🌶️ pepper     🥑 avocado     🧅 onion      🥜 peanut
🍕 pizza     🍔 burger    🌮 taco       🍩 donut      🍪 cookie     🍰 cake        🧁 cupcake    🍿 popcorn
🚗 car       🚕 taxi      🚌 bus        🚀 rocket     ✈️ plane      🚁 helicopter  ⛵ sailboat   🚲 bicycle
🐕 dog       🐈 cat       🐟 fish       🦋 butterfly  🐝 bee        🦊 fox         🦁 lion       🐘 elephant
🌲 tree      🌻 sunflower 🌵 cactus     🍀 clover     🌸 blossom    🌈 rainbow     ⭐ star       🌙 moon
🏠 house     ⛰️ mountain  🗻 peak       🌋 volcano    🏝️ island     🗿 moai        ⛺ tent       🏰 castle
🔑 key       🔔 bell      📚 books      🎸 guitar     ⚓ anchor     👑 crown       💎 diamond    🔥 fire
""".split()
_EMOJI, _NAMES = tuple(_TABLE[::2]), tuple(_TABLE[1::2])


def _indices(fingerprint: str) -> list[int]:
    x = int(fingerprint[:8], 16)
    return [(x >> (26 - 6 * i)) & 63 for i in range(5)]


def pictogram(fingerprint: str) -> list[str]:
    """The five emoji of a 64-character fingerprint."""
    return [_EMOJI[i] for i in _indices(fingerprint)]


def speakable(fingerprint: str) -> str:
    """Their names, joined by single spaces."""
    return " ".join(_NAMES[i] for i in _indices(fingerprint))
