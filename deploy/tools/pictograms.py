"""Writes the drawings of the 64 pictograms: `python -m deploy.tools.pictograms iconify-json-noto-1.2.9.tgz`.

The archive is the npm package of PACKAGE_VERSION (`npm pack @iconify-json/noto@1.2.9`): Noto Emoji, under the Apache
License 2.0. Each drawing becomes one file, named as the table of docs/protocol.md, 2.2 names it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree as ET

from sigil.protocol.encoding.pictogram import TABLE

PACKAGE_VERSION = "1.2.9"
# `npm view @iconify-json/noto@1.2.9 dist.integrity`
PACKAGE_SHA512 = "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="
FOLDER = Path(__file__).resolve().parent.parent.parent / "sigil" / "pages" / "pictograms"

_NOTICE = "<!-- Noto Emoji by Google Inc, Apache License 2.0; wrapped and ids renamed by deploy/tools/pictograms.py -->"
_SIZE = 128
# What a drawing may be made of. No script, style, image, text or foreignObject.
_ELEMENTS = frozenset(
    "svg g defs path circle ellipse rect line polygon polyline linearGradient radialGradient stop clipPath use".split()
)
_LINKS = frozenset({"href", "{http://www.w3.org/1999/xlink}href"})
_ATTRIBUTES = _LINKS | frozenset(
    "id d cx cy r rx ry x y x1 y1 x2 y2 fx fy fr width height points viewBox transform offset gradientUnits "
    "gradientTransform spreadMethod clip-path clip-rule fill fill-opacity fill-rule opacity stop-color stop-opacity "
    "stroke stroke-linecap stroke-linejoin stroke-miterlimit stroke-width stroke-opacity enable-background".split()
)
_REFERENCE = re.compile(r"url\(([^)]*)\)")
_OWN = re.compile(r"#[a-z0-9-]+")


class UnsafeDrawing(ValueError):
    """A drawing holds more than shapes."""


def drawing(name: str, body: str) -> bytes:
    """The file of one drawing. Its ids begin with `name`, so that several fit into one document.

    Raises UnsafeDrawing for a drawing that holds more than shapes and references to its own parts.
    """
    ids = dict.fromkeys(re.findall(r' id="([^"]+)"', body))
    for number, old in enumerate(ids, 1):
        body = re.sub(rf'(?<= id="){re.escape(old)}(?=")|(?<=#){re.escape(old)}(?=["\')])', f"{name}-{number}", body)
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {_SIZE} {_SIZE}">{_NOTICE}{body}</svg>\n'
    )
    if "xlink:" not in body:
        text = text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "", 1)
    check(name, text)
    return text.encode("ascii")


def check(name: str, text: str) -> None:
    """Raises UnsafeDrawing for a file that holds more than shapes and references to its own parts."""
    if "<!DOCTYPE" in text or "<?" in text:
        raise UnsafeDrawing(f"{name}: a document type or an instruction")
    ids = []
    references = []
    for node in ET.fromstring(text).iter():  # noqa: S314 - no document type, so no entities
        tag = node.tag.removeprefix("{http://www.w3.org/2000/svg}")
        if tag not in _ELEMENTS or (node.text or "").strip() or (node.tail or "").strip():
            raise UnsafeDrawing(f"{name}: the element {tag}, or text in it")
        for attribute, value in node.attrib.items():
            if attribute not in _ATTRIBUTES:
                raise UnsafeDrawing(f"{name}: the attribute {attribute}")
            ids += [value] if attribute == "id" else []
            references += [value] if attribute in _LINKS else _REFERENCE.findall(value)
    if len(set(ids)) != len(ids) or any(not id_.startswith(f"{name}-") for id_ in ids):
        raise UnsafeDrawing(f"{name}: an id that is not its own")
    for reference in references:
        if not _OWN.fullmatch(reference) or reference[1:] not in ids:
            raise UnsafeDrawing(f"{name}: a reference to {reference}")


def drawings(archive: bytes) -> dict[str, bytes]:
    """The files by name, from the bytes of the npm package."""
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != PACKAGE_SHA512:
        raise SystemExit(f"pictograms: this is not the archive of @iconify-json/noto {PACKAGE_VERSION}")
    return drawings_of(archive)


def drawings_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as package:
        icons, names = (json.load(package.extractfile(f"package/{name}.json")) for name in ("icons", "chars"))
    icons = icons["icons"]
    return {f"{name}.svg": drawing(name, icons[names[_code_points(emoji)]]["body"]) for emoji, name in TABLE}


def _code_points(emoji: str) -> str:
    """As `chars.json` of the package writes them: without U+FE0F."""
    return "-".join(f"{ord(char):x}" for char in emoji if char != "\ufe0f")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m deploy.tools.pictograms iconify-json-noto-{PACKAGE_VERSION}.tgz\n")
        return 2
    files = drawings(Path(arguments[0]).read_bytes())
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.svg"):
        old.unlink()
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)
    sys.stdout.write(f"{len(files)} drawings, {sum(map(len, files.values()))} bytes, in {FOLDER}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
