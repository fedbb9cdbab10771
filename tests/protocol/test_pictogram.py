"""Five emoji of a fingerprint (docs/protocol.md, 2.2)."""

from __future__ import annotations

import pytest

from sigil.protocol.encoding.pictogram import pictogram, speakable

# Code points and names of the table, in its order; fe0f marks the four that carry U+FE0F.
TABLE = """
1f34e apple, 1f34c banana, 1f347 grapes, 1f34a orange, 1f34b lemon, 1f352 cherry, 1f353 strawberry, 1f95d kiwi,
1f955 carrot, 1f33d corn, 1f966 broccoli, 1f344 mushroom, 1f336-fe0f pepper, 1f951 avocado, 1f9c5 onion, 1f95c peanut,
1f355 pizza, 1f354 burger, 1f32e taco, 1f369 donut, 1f36a cookie, 1f370 cake, 1f9c1 cupcake, 1f37f popcorn,
1f697 car, 1f695 taxi, 1f68c bus, 1f680 rocket, 2708-fe0f plane, 1f681 helicopter, 26f5 sailboat, 1f6b2 bicycle,
1f415 dog, 1f408 cat, 1f41f fish, 1f98b butterfly, 1f41d bee, 1f98a fox, 1f981 lion, 1f418 elephant,
1f332 tree, 1f33b sunflower, 1f335 cactus, 1f340 clover, 1f338 blossom, 1f308 rainbow, 2b50 star, 1f319 moon,
1f3e0 house, 26f0-fe0f mountain, 1f5fb peak, 1f30b volcano, 1f3dd-fe0f island, 1f5ff moai, 26fa tent, 1f3f0 castle,
1f511 key, 1f514 bell, 1f4da books, 1f3b8 guitar, 2693 anchor, 1f451 crown, 1f48e diamond, 1f525 fire
"""
ROWS = [entry.split() for entry in TABLE.replace("\n", " ").split(",")]


def _fingerprint(*indices: int) -> str:
    x = 0
    for index in indices:
        x = x << 6 | index
    return f"{x << 2:08x}" + "0" * 56


def test_the_table_has_64_different_rows() -> None:
    assert len(ROWS) == len({name for _, name in ROWS}) == len({points for points, _ in ROWS}) == 64
    assert [name for points, name in ROWS if points.endswith("-fe0f")] == ["pepper", "plane", "mountain", "island"]


@pytest.mark.parametrize("position", range(5))
def test_every_row_has_exactly_its_code_points_and_name(position: int) -> None:
    for index, (points, name) in enumerate(ROWS):
        indices = [0] * 5
        indices[position] = index
        fingerprint = _fingerprint(*indices)
        assert pictogram(fingerprint)[position] == "".join(chr(int(point, 16)) for point in points.split("-"))
        assert speakable(fingerprint).split(" ")[position] == name


def test_the_example_of_the_protocol_document_holds() -> None:
    fingerprint = "a1b2c3d4" + "0" * 56
    assert speakable(fingerprint) == "tree rocket mushroom orange moai"
    assert pictogram(fingerprint) == ["\U0001f332", "\U0001f680", "\U0001f344", "\U0001f34a", "\U0001f5ff"]


def test_only_the_first_30_bits_count() -> None:
    first = pictogram("a1b2c3d4" + "0" * 56)
    assert pictogram("a1b2c3d7" + "f" * 56) == first
    for bit in range(30):
        assert pictogram(f"{0xA1B2C3D4 ^ 1 << (31 - bit):08x}" + "0" * 56) != first


def test_each_group_of_six_bits_moves_one_emoji() -> None:
    for bit in range(30):
        changed = pictogram(f"{1 << (31 - bit):08x}" + "0" * 56)
        different = [at for at, emoji in enumerate(changed) if emoji != pictogram("0" * 64)[at]]
        assert different == [bit // 6]
