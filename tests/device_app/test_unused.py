"""Nothing in the web app is left over: exports, texts and CSS classes that no module uses."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "sigil" / "pages" / "device"
TEXTS = APP / "texts"
MODULES = {
    file: file.read_text(encoding="utf-8")
    for file in sorted(APP.rglob("*.js"))
    if "vendor" not in file.parts and file.parent.parent != TEXTS
}
CODE = "\n".join(MODULES.values()) + (APP / "index.html").read_text(encoding="utf-8")
_EXPORT = re.compile(r"^export (?:async )?(?:function|const|class|let) (\w+)", re.MULTILINE)
_PLURAL = re.compile(r"\.(?:one|other)$")


def is_word_of(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def test_another_module_or_a_test_uses_each_export() -> None:
    tests = "\n".join(
        file.read_text(encoding="utf-8")
        for file in (ROOT / "tests" / "device_app").rglob("*")
        if file.suffix in {".py", ".js"} and file != Path(__file__)
    )
    unused = [
        f"{file.relative_to(APP)}: {name}"
        for file, text in MODULES.items()
        for name in _EXPORT.findall(text)
        if not is_word_of(name, tests)
        and not any(is_word_of(name, other) for path, other in MODULES.items() if path != file)
    ]
    assert unused == []


def test_each_text_is_shown_somewhere() -> None:
    # By a lookahead: a template may be inside of another one.
    templates = set(re.findall(r"(?=`([a-z_]+\.[a-z_.]*\$\{[^`]*)`)", CODE))
    patterns = [
        re.compile(r"[\w.]+".join(re.escape(part) for part in re.split(r"\$\{[^}]*\}", template)))
        for template in templates
    ]

    def is_used(key: str) -> bool:
        return f'"{key}"' in CODE or any(pattern.fullmatch(key) for pattern in patterns)

    keys = [
        key
        for file in sorted((TEXTS / "en").glob("*.js"))
        for key in re.findall(r'^\s*"([\w.]+)":', file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(keys) > 300
    assert [key for key in keys if not is_used(key) and not is_used(_PLURAL.sub("", key))] == []


def test_an_element_has_each_css_class() -> None:
    sheets = "\n".join(file.read_text(encoding="utf-8") for file in APP.rglob("*.css"))
    classes = set(re.findall(r"\.([a-z][\w-]*)", re.sub(r"/\*.*?\*/", "", sheets, flags=re.DOTALL)))
    assert len(classes) > 30
    assert sorted(name for name in classes if not is_word_of(name, CODE)) == []
