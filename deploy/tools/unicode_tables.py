"""Writes the Unicode tables of docs/protocol.md, 2.5: `python -m deploy.tools.unicode_tables`.

It needs `unicodedata2` of UNICODE_VERSION and `regex` of the same Unicode version, which are not in the lock file:
run it in an environment of its own (`pip install unicodedata2==18.0.0 regex`). Run it only for a new version of the
protocol, since server and devices must use the same tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

UNICODE_VERSION = "18.0.0"
ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = ROOT / "sigil" / "protocol" / "encoding" / "unicode_tables.py"
PAGE = ROOT / "sigil" / "pages" / "device" / "core" / "unicode_tables.js"
VECTORS = ROOT / "tests" / "vectors" / "unicode.txt"

# Their categories do not show that fonts draw nothing for them: object replacement, null notehead, Khitan filler.
_INVISIBLE = frozenset({0xFFFC, 0x1D159, 0x16FE4})
_BRAILLE_BLANK = 0x2800
_COMMENTS = {
    "GRAPHIC": "L*, Mc, N*, P*, S*: characters that show something and take space.",
    "BLANK": "Zs and U+2800.",
    "MARK": "Mn, Me, and Mc of a Canonical_Combining_Class other than 0 and 9: drawn onto the character before them.",
    "MARK_VIRAMA": "Of MARK, Canonical_Combining_Class = 9.",
    "SPACING_VIRAMA": "Of GRAPHIC, Canonical_Combining_Class = 9.",
    "JOINS_NEXT": "Of GRAPHIC, Joining_Type = L: joins the letter after it.",
    "JOINS_PREVIOUS": "Of GRAPHIC, Joining_Type = R: joins the letter before it.",
    "JOINS_BOTH": "Of GRAPHIC, Joining_Type = D: joins both.",
    "EMOJI": "Of GRAPHIC, Extended_Pictographic.",
}


def tables() -> dict[str, list[tuple[int, int]]]:
    import regex
    import unicodedata2

    if unicodedata2.unidata_version != UNICODE_VERSION:
        sys.exit(f"unicodedata2 has Unicode {unicodedata2.unidata_version}: install version {UNICODE_VERSION}")
    ignorable = regex.compile(r"\p{Default_Ignorable_Code_Point}").match
    joining = {kind: regex.compile(rf"\p{{Joining_Type={kind}}}").match for kind in "LRD"}
    pictographic = regex.compile(r"\p{Extended_Pictographic}").match
    category = [unicodedata2.category(chr(code)) for code in range(0x110000)]
    shown = {code for code in range(0x110000) if not ignorable(chr(code)) and code not in _INVISIBLE | {_BRAILLE_BLANK}}
    attached = {code for code in shown if category[code] == "Mc" and unicodedata2.combining(chr(code)) not in {0, 9}}
    marks = {code for code in shown if category[code] in {"Mn", "Me"}} | attached
    graphic = {code for code in shown if category[code][0] in "LNPS" or category[code] == "Mc"} - marks

    def virama(char: str) -> bool:
        return unicodedata2.combining(char) == 9

    def of(codes: set[int], test: Callable[[str], object]) -> list[tuple[int, int]]:
        return list(_ranges({code for code in codes if test(chr(code))}))

    return {
        "GRAPHIC": list(_ranges(graphic)),
        "BLANK": list(_ranges({code for code in shown if category[code] == "Zs"} | {_BRAILLE_BLANK})),
        "MARK": list(_ranges(marks)),
        "MARK_VIRAMA": of(marks, virama),
        "SPACING_VIRAMA": of(graphic, virama),
        "JOINS_NEXT": of(graphic, joining["L"]),
        "JOINS_PREVIOUS": of(graphic, joining["R"]),
        "JOINS_BOTH": of(graphic, joining["D"]),
        "EMOJI": of(graphic, pictographic),
    }


def _ranges(codes: set[int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(codes)
    starts = [code for code in ordered if code - 1 not in codes]
    ends = [code for code in ordered if code + 1 not in codes]
    return zip(starts, ends, strict=True)


def _spelled(ranges: list[tuple[int, int]]) -> list[str]:
    return [f"{low:x}-{high:x}" if high > low else f"{low:x}" for low, high in ranges]


def _lines(words: list[str], width: int) -> Iterator[str]:
    line = ""
    for word in words:
        if len(line) + len(word) + 1 > width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line


def main() -> int:
    found = tables()
    module = [
        '"""Code points that a text for people may hold, as ranges in hex. Written by deploy/tools/unicode_tables.py.',
        "",
        "The tables are those of one Unicode version. The interpreter's `unicodedata` differs between Python versions:",
        "a server and a device would disagree about the same text.",
        '"""',
        "",
        f'UNICODE_VERSION = "{UNICODE_VERSION}"',
    ]
    page = [
        "// Code points that a text for people may hold, as ranges in hex. Written by deploy/tools/unicode_tables.py.",
        "",
        f'export const UNICODE_VERSION = "{UNICODE_VERSION}";',
    ]
    vectors = [
        f"# Unicode {UNICODE_VERSION}. Tables of docs/protocol.md, 2.5: NAME, then ranges in hex, both ends included."
    ]
    for name, ranges in found.items():
        module += ["", f"# {_COMMENTS[name]}", f'{name} = """', *_lines(_spelled(ranges), 118), '"""']
        page += ["", f"// {_COMMENTS[name]}", f"export const {name} = `", *_lines(_spelled(ranges), 118), "`;"]
        vectors += ["", f"# {_COMMENTS[name]}", name, *_lines(_spelled(ranges), 118)]
    MODULE.write_text("\n".join(module) + "\n", encoding="ascii")
    PAGE.write_text("\n".join(page) + "\n", encoding="ascii")
    VECTORS.write_text("\n".join(vectors) + "\n", encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
