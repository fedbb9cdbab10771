"""Actions, and texts for people."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from . import INVALID_REQUEST, Case, jcs

# --- Actions ---


# --- texts for people (docs/protocol.md, 2.5) ---

TABLES = Path(__file__).parent.parent / "unicode.txt"


@cache
def unicode_tables() -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = {}
    name = ""
    for line in TABLES.read_text(encoding="ascii").splitlines():
        if line and line[0] != "#" and line.isupper() and line.replace("_", "").isalpha():
            name = line
        elif line and line[0] != "#":
            for item in line.split():
                low, _, high = item.partition("-")
                codes = range(int(low, 16), int(high or low, 16) + 1)
                found[name] = found.get(name, frozenset()) | frozenset(codes)
    return found


def is_displayable(text: str) -> bool:
    """The rule of 2.5, point by point, one character at a time."""
    table, codes = unicode_tables(), [ord(char) for char in text]
    virama = table["MARK_VIRAMA"] | table["SPACING_VIRAMA"]
    joining = table["JOINS_NEXT"] | table["JOINS_BOTH"] | table["JOINS_PREVIOUS"]

    def at(index: int) -> int:
        return codes[index] if 0 <= index < len(codes) else -1

    def marks_before(index: int) -> int:
        count = 0
        while at(index - 1 - count) in table["MARK"]:
            count += 1
        return count

    def ends_emoji(index: int) -> bool:
        """Whether an emoji, with its one modifier, ends before the index."""
        last = at(index - 1)
        return last in table["EMOJI"] or (
            (last == 0xFE0F or 0x1F3FB <= last <= 0x1F3FF) and at(index - 2) in table["EMOJI"]
        )

    def joiner_is_good(index: int) -> bool:
        if at(index) == 0x200D and ends_emoji(index) and at(index + 1) in table["EMOJI"]:
            return True
        if at(index - 1) in virama and at(index + 1) not in table["MARK"]:
            return True
        if at(index + 1) in virama and at(index - 1) in table["GRAPHIC"] and at(index - 1) not in table["EMOJI"]:
            return True
        base = at(index - 1 - marks_before(index))
        return at(index) == 0x200C and base in joining and at(index + 1) in joining

    def is_good(index: int) -> bool:
        code = codes[index]
        if code in (0x200C, 0x200D):
            return joiner_is_good(index)
        if code == 0xFE0F:
            keycap = chr(max(at(index - 1), 0)) in "#*0123456789" and at(index + 1) == 0x20E3
            return keycap or at(index - 1) in table["EMOJI"]
        if code == 0xFE0E:
            return at(index - 1) in table["EMOJI"] and at(index - 2) != 0x200D
        if code in table["MARK"]:
            count = marks_before(index)
            base = at(index - 1 - count)
            based = base in table["GRAPHIC"] or base in (0xFE0E, 0xFE0F, 0x200C, 0x200D)
            return count < 4 and based
        return code in table["GRAPHIC"] or code in table["BLANK"]

    return all(map(is_good, range(len(codes)))) and any(code in table["GRAPHIC"] for code in codes)


def texts_for_people() -> list[tuple[str, str, bool]]:
    """Name, text, and whether it may be shown; each expectation is written by hand and compared with the rule."""
    shown = {
        "accents": "Zoë, Ångström, Tiê\u0301ng Vie\u0323\u0302t",
        "many scripts": "支付 оплата دفع שלום ที่ 한국어 ñ é ﬁ\u00a0\u3000x",
        "vowel points": "مُحَمَّد שָׁלוֹם",
        "Tibetan stacks": "བསྒྲུབས",
        "Burmese medials": "ကျွန်ုပ်",
        "a non-joiner in Persian": "می\u200cخواهم کتاب\u200cها",
        "a non-joiner in Persian behind a letter that never joins": "کار\u200cها",
        "a non-joiner behind a vowel point": "کارِ\u200cها",
        "a text presentation": "\u2764\ufe0e \u00a9\ufe0e",
        "a joiner in Devanagari": "क्\u200dष",
        "a joiner in Sinhala": "ශ්\u200dරී",
        "a joiner before a virama in Bengali": "র\u200d্যাব",
        "a joiner behind a spacing virama": "\U00011315\U0001134d\u200d\U00011337",
        "an emoji": "\U0001f600",
        "a family of emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "a skin tone": "\U0001f469\U0001f3fd\u200d\U0001f4bb",
        "an emoji presentation": "\u2764\ufe0f \U0001f3f3\ufe0f\u200d\U0001f308",
        "a keycap": "1\ufe0f\u20e3",
        "a flag of two letters": "\U0001f1e9\U0001f1ea",
        "four marks": "e" + "\u0301" * 4,
        "blanks around": " x ",
        "a Braille blank inside": "\u2801\u2800\u2801",
        "a character of Unicode 15.0": "\U0001fae8",
    }
    refused = {
        "nothing": "",
        "a blank alone": " ",
        "blanks alone": "\u00a0\u2003\u3000\u2800",
        "a null": "a\u0000b",
        "a newline": "a\nb",
        "a newline behind": "d\n",
        "a tab": "a\tb",
        "an escape sequence": "\u001b[2Jb",
        "a C1 control": "a\u009bb",
        "a soft hyphen": "a\u00adb",
        "a grapheme joiner": "a\u034fb",
        "an Arabic letter mark": "a\u061cb",
        "a Hangul filler alone": "\u3164",
        "a Hangul choseong filler": "a\u115fb",
        "a Hangul jungseong filler": "a\u1160b",
        "a half-width Hangul filler": "a\uffa0b",
        "a Khmer inherent vowel": "a\u17b4b",
        "a Mongolian variation selector": "a\u180bb",
        "a Mongolian vowel separator": "a\u180eb",
        "a zero width space": "a\u200bb",
        "a left-to-right mark": "a\u200eb",
        "a line separator": "a\u2028b",
        "a paragraph separator": "a\u2029b",
        "a right-to-left override": "a\u202eb",
        "a word joiner": "a\u2060b",
        "a reserved format character": "a\u2065b",
        "an isolate": "a\u2066b",
        "a deprecated format character": "a\u206ab",
        "the last deprecated format character": "a\u206fb",
        "a private character": "a\ue000b",
        "a private character of plane 16": "a\U0010fffdb",
        "a noncharacter": "a\ufdd0b",
        "a noncharacter at the end of the BMP": "a\uffffb",
        "a noncharacter at the end of plane 1": "a\U0001fffeb",
        "the last code point": "a\U0010ffffb",
        "a code point that is not assigned": "a\u0378b",
        "a byte order mark": "a\ufeffb",
        "an interlinear annotation": "a\ufff9b",
        "an object replacement": "a\ufffcb",
        "a null notehead": "a\U0001d159b",
        "a tag character": "a\U000e0041b",
        "a flag of tag characters": "\U0001f3f4\U000e0067\U000e0062\U000e007f",
        "a variation selector": "a\ufe00b",
        "a text presentation of a letter": "a\ufe0e",
        "a text presentation of a digit": "1\ufe0e",
        "two text presentations": "\u2764\ufe0e\ufe0e",
        "a text presentation behind an emoji presentation": "\u2764\ufe0f\ufe0e",
        "a text presentation in a sequence of emoji": "\U0001f468\u200d\u2764\ufe0e",
        "a joiner behind a text presentation": "\u2764\ufe0e\u200d\U0001f468",
        "a non-joiner before a blank in Persian": "می\u200c خواهم",
        "two non-joiners in Persian": "می\u200c\u200cخواهم",
        "a non-joiner between Persian and Latin": "می\u200ca",
        "a variation selector of plane 14": "a\U000e0100b",
        "60 stacked accents": "e" + "\u0301" * 60,
        "five marks": "e" + "\u0301" * 5,
        "a mark at the start": "\u0301a",
        "a mark on a blank": "a \u0301",
        "an enclosing mark on a blank": " \u20dd",
        "a joiner alone": "\u200d",
        "a joiner between Latin letters": "a\u200db",
        "a non-joiner between Latin letters": "a\u200cb",
        "a non-joiner at the end of Persian": "می\u200c",
        "a joiner between Arabic letters": "ب\u200dب",
        "two joiners": "क्\u200d\u200dष",
        "a mark behind a joiner": "क्\u200d\u0301",
        "a joiner at the end of an emoji": "\U0001f468\u200d",
        "an emoji presentation of a letter": "a\ufe0f",
        "two emoji presentations": "\u2764\ufe0f\ufe0f",
        "a keycap of a letter": "a\ufe0f\u20e3",
        "a digit with an emoji presentation alone": "1\ufe0f",
        "256 emoji and a newline": "\U0001f600" * 255 + "\n",
    }
    assert all(map(is_displayable, shown.values())), [name for name, text in shown.items() if not is_displayable(text)]
    assert not any(map(is_displayable, refused.values()))
    return [
        *((name, text, True) for name, text in shown.items()),
        *((name, text, False) for name, text in refused.items()),
    ]


def actions() -> list[Case]:  # noqa: PLR0912 -- a table
    cases: list[Case] = []

    def text(name: str, action: str | bytes, expect: Any, path: str | None = None) -> None:
        body = {"action": action} if isinstance(action, str) else {"action_hex": action.hex()}
        cases.append({"name": name, **body, "expect": expect} | ({"path": path} if path else {}))

    def good(name: str, action: Case, spelled: str | None = None) -> None:
        text(name, spelled or json.dumps(action), {"jcs": jcs(action).decode()})

    def bad(name: str, action: str | bytes, path: str) -> None:
        text(name, action, INVALID_REQUEST, "$" + path)

    def described(text: str) -> Case:
        return {"type": "a", "description": text}

    def with_params(params: Any) -> Case:
        return {"type": "a", "description": "d", "params": params}

    def spelled(params: str) -> str:
        return '{"type":"a","description":"d","params":' + params + "}"

    good("the least there can be", described("d"))
    good("members in another order", described("d"), '{"description":"d","type":"a"}')
    good("white space between", described("d"), ' { "type" :\t"a" ,\r\n"description": "d" } ')
    good("escapes of what needs none", described("d/é"), '{"type":"\\u0061","description":"d\\/\\u00E9"}')
    good("a surrogate pair as escapes", described("\U0001f600"), '{"type":"a","description":"\\ud83d\\ude00"}')
    bad("a member twice", '{"description":"d","type":"a","description":"second"}', "")

    good("every character of a type", {"type": "abcdefghijklmnopqrstuvwxyz0123456789_.:-", "description": "d"})
    good("a type of 64", {"type": "a" * 64, "description": "d"})
    for name, value in {
        "empty": "",
        "of 65": "a" * 65,
        "in upper case": "A",
        "with a blank": "a b",
        "with a newline behind": "a\n",
        "of 64 with a newline behind": "a" * 64 + "\n",
        "that is a newline": "\n",
        "with a second line": "a\nb",
        "with a slash": "a/b",
        "beyond ASCII": "é",
        "with a full-width letter": "ａ",
        "with Arabic digits": "٠",
    }.items():
        bad(f"a type {name}", json.dumps({"type": value, "description": "d"}), ".action.type")
    bad("a type that is no string", '{"type":1,"description":"d"}', ".action.type")
    bad("a type that is null", '{"type":null,"description":"d"}', ".action.type")
    bad("no type", '{"description":"d"}', ".action.type")
    bad("no description", '{"type":"a"}', ".action.description")
    bad("a description that is null", '{"type":"a","description":null}', ".action.description")
    bad("a description that is a list", '{"type":"a","description":["d"]}', ".action.description")
    bad("an empty description", '{"type":"a","description":""}', ".action.description")
    good("a description of 256 letters", described("d" * 256))
    good("a description of 256 code points beyond the BMP", described("\U0001f600" * 256))
    bad("a description of 257 letters", json.dumps(described("d" * 257)), ".action.description")
    bad(
        "a description of 257 code points beyond the BMP",
        json.dumps(described("\U0001f600" * 257)),
        ".action.description",
    )
    for name, shown, expected in texts_for_people():
        if shown and expected:
            good(f"a description with {name}", described(shown))
        else:
            bad(f"a description with {name}", json.dumps(described(shown)), ".action.description")
    for name, shown, expected in texts_for_people():
        for where, params in {"text": {"x": ["y", shown]}, "name": {"x": {shown: 1}}}.items():
            if expected or not shown:
                good(f"a {where} in params with {name}", with_params(params))
            else:
                bad(f"a {where} in params with {name}", json.dumps(with_params(params)), ".action.params")

    for half in ("\\ud800", "\\udbff", "\\udc00", "\\udfff", "\\ude00\\ud83d", "\\ud83dx"):
        bad(f"half a surrogate pair in a description, {half}", '{"type":"a","description":"' + half + '"}', "")
        bad(f"half a surrogate pair in params, {half}", spelled('{"x":"' + half + '"}'), "")
        bad(f"half a surrogate pair in params with -0, {half}", spelled('{"x":"-0' + half + '"}'), "")
        bad(f"half a surrogate pair in a member's name, {half}", spelled('{"' + half + '":1}'), "")
    bad("UTF-8 cut short in a description", b'{"type":"a","description":"\xc3"}', "")
    bad("an overlong NUL in a description", b'{"type":"a","description":"\xc0\x80"}', "")
    bad("a surrogate as UTF-8 in a description", b'{"type":"a","description":"\xed\xa0\x80"}', "")
    for name, raw in {
        "UTF-8 cut short": b"\xc3",
        "a lone continuation": b"\x80",
        "an overlong slash": b"\xc0\xaf",
        "a surrogate as UTF-8": b"\xed\xa0\x80",
        "a surrogate pair as UTF-8 (CESU-8)": b"\xed\xa0\xbd\xed\xb8\x80",
        "beyond U+10FFFF": b"\xf4\x90\x80\x80",
        "Latin-1": b"\xe9",
    }.items():
        for where in (b'{"x":"%s"}', b'{"x":"-0%s"}', b'{"%s":1}', b'{"-0%s":1}'):
            name_of = where.decode().replace("%s", "…")
            bad(f"{name} in params, {name_of}", spelled("@").encode().replace(b"@", where % raw), "")

    good("params that are null count as absent", described("d"), spelled("null"))
    good("params that are null with blanks around", described("d"), spelled("  null\n"))
    good("params without members", with_params({}))
    good("null, true and false in params", with_params({"a": None, "b": True, "c": False}))
    good("members in UTF-16 order", with_params({"\ufb33": 1, "\U0001f600": 2, "b": 3, "a": 4, "€": 5, "A": 6}))
    good("all that JCS escapes in a displayable text", with_params({"x": "".join(map(chr, range(0x20, 0x7F)))}))
    bad("a member of params twice", spelled('{"x":1,"x":2}'), "")
    bad("a member of params twice with the same value", spelled('{"x":1,"x":1}'), "")
    bad("a member twice, once as an escape", spelled('{"x":1,"\\u0078":2}'), "")
    bad("a member of a deeper object twice", spelled('{"x":{"y":2,"y":"z"}}'), "")
    good("the text -0 inside a string", with_params({"-0": "-0"}))
    good("a number that begins with -0 is none", with_params({"x": -10, "y": "a-0"}))
    for name, params in {
        "a list": "[]",
        "a string": '"x"',
        "a number": "1",
        "true": "true",
        "-0": "-0",
        "1.5": "1.5",
    }.items():
        bad(f"params that are {name}", spelled(params), ".action.params")

    for number in ("0", "1", "-1", "9007199254740991", "-9007199254740991"):
        good(f"the number {number}", with_params({"x": int(number)}))
    for number in (
        *(
            "-0",
            "1.0",
            "1e2",
            "1E2",
            "1e+2",
            "1e-2",
            "-0.0",
            "0.0",
            "0e0",
            "-0e0",
            "1.5",
            "9007199254740992",
            "-9007199254740992",
        ),
        *("9007199254740993", "18446744073709551616", "1e400", "-1e400", "1" + "0" * 400, "1" + "0" * 5000),
    ):
        short = number if len(number) < 30 else f"of {len(number)} digits"
        bad(f"the number {short}", spelled('{"x":' + number + "}"), ".action.params")
        bad(f"the number {short} in a list", spelled('{"x":["-0",[' + number + "]]}"), ".action.params")
    for word in (
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "-01",
        "+1",
        ".5",
        "1.",
        "1e",
        "0x1",
        "1_0",
        "undefined",
        "True",
        "-",
    ):
        bad(f"the word {word} for a number", spelled('{"x":' + word + "}"), "")
        bad(f"the word {word} for a number beside -0", spelled('{"y":"-0","x":' + word + "}"), "")

    def nested(depth: int) -> Any:
        return {} if depth == 1 else {"a": nested(depth - 1)}

    def listed(depth: int) -> Any:
        return {"a": json.loads("[" * (depth - 1) + "]" * (depth - 1))}

    for depth in (15, 16):
        good(f"objects to depth {depth}", with_params(nested(depth)))
        good(f"lists to depth {depth}", with_params(listed(depth)))
    bad("objects to depth 17", json.dumps(with_params(nested(17))), ".action.params")
    bad("lists to depth 17", json.dumps(with_params(listed(17))), ".action.params")
    bad("lists to depth 17 beside -0", json.dumps(with_params(listed(17) | {"b": "-0"})), ".action.params")
    good("a string at depth 16", with_params(json.loads('{"a":' + "[" * 15 + '"x"' + "]" * 15 + "}")))

    free = 2048 - len(jcs(with_params({"x": ""})))
    good("2048 bytes", with_params({"x": "x" * free}))
    bad("2049 bytes", json.dumps(with_params({"x": "x" * (free + 1)})), ".action")
    good(
        "2048 bytes that white space makes more of",
        with_params({"x": "x" * free}),
        spelled(" " * 3000 + '{"x":"' + "x" * free + '"}'),
    )
    good(
        "2048 bytes that escapes make more of",
        with_params({"x": "x" * free}),
        spelled('{"x":"' + "\\u0078" * free + '"}'),
    )
    euros, rest = divmod(free, 3)
    good("2048 bytes in three-byte characters", with_params({"x": "€" * euros + "x" * rest}))
    bad(
        "2049 bytes in three-byte characters", json.dumps(with_params({"x": "€" * euros + "x" * (rest + 1)})), ".action"
    )
    quotes, rest = divmod(free, 2)
    good("2048 bytes in escaped quotes", with_params({"x": '"' * quotes + "x" * rest}))
    bad(
        "2049 bytes in escaped quotes",
        json.dumps(with_params({"x": '"' * quotes + "x" * (rest + 1)})),
        ".action",
    )

    bad("an unknown member", '{"type":"a","description":"d","user_id":"alice"}', ".action.user_id")
    bad("an unknown member that is null", '{"type":"a","description":"d","user_id":null}', ".action.user_id")
    bad("a member's name in another case", '{"type":"a","description":"d","Params":{}}', ".action.Params")
    for name, action in {"null": "null", "a list": "[]", "a string": '"a"', "a number": "1"}.items():
        bad(f"an action that is {name}", action, ".action")
    bad("params that end early", '{"type":"a","description":"d","params":{"x":1}', "")
    bad("a comma too many", spelled('{"x":1,}'), "")
    bad("a comment", spelled('{"x":1/**/}'), "")
    bad("single quotes", spelled("{'x':1}"), "")
    bad("a raw newline in a string", spelled('{"x":"\n"}'), "")
    bad("a raw zero byte in a string", spelled('{"x":"\0"}'), "")
    return cases
