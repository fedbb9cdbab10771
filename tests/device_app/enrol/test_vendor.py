"""The third-party scripts of the app are the files that their README names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "sigil" / "pages" / "device" / "vendor"
_ROW = re.compile(r"^\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)


def rows() -> dict[str, str]:
    return dict(_ROW.findall((FOLDER / "README.md").read_text(encoding="utf-8")))


def test_each_script_is_the_one_that_the_table_names() -> None:
    scripts = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.js")}
    assert scripts == rows()


def test_each_script_has_its_licence_beside_it() -> None:
    for name in rows():
        licence = FOLDER / f"{name.removesuffix('.js')}.LICENSE.txt"
        assert "Apache License" in licence.read_text(encoding="utf-8"), name


def test_no_script_needs_what_the_policy_of_the_page_forbids() -> None:
    forbidden = re.compile(r"\beval\s*\(|\bnew Function\b|WebAssembly|innerHTML|outerHTML|document\.write|new Worker")
    for path in FOLDER.glob("*.js"):
        assert not forbidden.search(path.read_text(encoding="utf-8")), path.name
