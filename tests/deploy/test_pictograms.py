"""The drawings of the pictograms: complete, as their generator writes them, and nothing but shapes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from deploy.tools import pictograms
from sigil.protocol.encoding.pictogram import TABLE

FILES = {path.name: path.read_bytes() for path in pictograms.FOLDER.glob("*.svg")}
# Of all files in the order of their names, as the generator writes them from the published package.
SHA256 = "f98875144ef241642d1fcf9f9b692e3819da1903f2c1b05d0f4dc6d6197af112"
ARCHIVE = os.environ.get("SIGIL_NOTO_PACKAGE", "")
BODY = '<path fill="url(#a)" d="M0 0h9v9z"/><defs><linearGradient id="a"><stop offset="0"/></linearGradient></defs>'


def archive(body: str) -> bytes:
    """A package like the published one, with the same drawing for every emoji."""
    chars = {"-".join(f"{ord(char):x}" for char in emoji if char != "\ufe0f"): name for emoji, name in TABLE}
    icons = {"icons": {name: {"body": body} for _, name in TABLE}}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as package:
        for name, content in (("icons", icons), ("chars", chars)):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}.json")
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def test_each_name_of_the_table_has_a_drawing_and_no_other_has() -> None:
    assert sorted(FILES) == sorted(f"{name}.svg" for _, name in TABLE)
    assert len(set(FILES.values())) == 64


def test_the_drawings_are_those_that_the_generator_wrote() -> None:
    assert hashlib.sha256(b"".join(FILES[name] for name in sorted(FILES))).hexdigest() == SHA256


if ARCHIVE:

    def test_the_published_package_gives_the_same_files() -> None:
        assert pictograms.drawings(Path(ARCHIVE).read_bytes()) == FILES


def test_a_package_of_another_content_is_rejected() -> None:
    with pytest.raises(SystemExit, match="not the archive of @iconify-json/noto"):
        pictograms.drawings(archive(BODY))


def test_every_drawing_holds_only_shapes_and_ids_of_its_own() -> None:
    for name, content in FILES.items():
        assert len(content) < 12_000, name
        pictograms.check(name.removesuffix(".svg"), content.decode("ascii"))


def test_ids_are_renamed_after_the_drawing_and_the_result_is_always_the_same() -> None:
    made = pictograms.drawings_of(archive(BODY))
    assert made == pictograms.drawings_of(archive(BODY))
    assert b'fill="url(#bell-1)"' in made["bell.svg"]
    assert b'id="bell-1"' in made["bell.svg"]


@pytest.mark.parametrize(
    "body",
    [
        "<script>alert(1)</script>",
        '<path d="M0 0" onload="alert(1)"/>',
        '<path d="M0 0" style="fill:red"/>',
        "<style>path{}</style>",
        '<image href="https://example.com/a.png"/>',
        '<use href="https://example.com/a.svg#a"/>',
        '<use href="#missing"/>',
        '<path d="M0 0" fill="url(https://example.com/a)"/>',
        '<path d="M0 0" fill="url(#missing)"/>',
        '<a href="#a"><path id="a" d="M0 0"/></a>',
        '<foreignObject><p xmlns="http://www.w3.org/1999/xhtml">x</p></foreignObject>',
        '<path id="a" d="M0 0"/><path id="a" d="M0 0"/>',
        "<path d='M0 0'/>text",
        "<?xml-stylesheet href='https://example.com/a.css'?>",
    ],
)
def test_a_drawing_that_runs_loads_or_says_something_is_rejected(body: str) -> None:
    with pytest.raises(pictograms.UnsafeDrawing):
        pictograms.drawing("bell", body)
