"""The texts: each language has all of them with the same values, and the screens use none that is missing."""

from __future__ import annotations

import re
from pathlib import Path

from tests.device_app.person import Person

DEVICE = Path(__file__).resolve().parents[3] / "sigil" / "pages" / "device"
READ = """async () => {
  const { LANGUAGES } = await import("/assets/device/texts/language.js");
  const found = {};
  for (const language of Object.keys(LANGUAGES)) {
    found[language] = {};
    for (const part of ["app", "enrol", "ask"]) {
      found[language][part] = (await import(`/assets/device/texts/${language}/${part}.js`)).default;
    }
  }
  return found;
}"""
VALUE = re.compile(r"\{(\w+)\}")
USED = re.compile(r"""\bt\(\s*"([a-z0-9_.]+)\"""")


def test_each_language_has_each_text_with_the_same_values(person: Person) -> None:
    person.open("/")
    languages = person.page.evaluate(READ)
    assert set(languages) == {"en", "de", "fr"}
    english = languages["en"]
    for language, parts in languages.items():
        for part, texts in parts.items():
            assert texts.keys() == english[part].keys(), (language, part)
            for key, text in texts.items():
                assert text.strip() == text != "", (language, key)
                # The singular of French is that of 0 too, so it has the count.
                values, wanted = ({*VALUE.findall(found)} - {"count"} for found in (text, english[part][key]))
                assert values == wanted, (language, key)
    keys = [key for texts in english.values() for key in texts]
    assert len(keys) == len(set(keys)), "no part replaces a text of another"
    stems = {re.sub(r"\.(one|other)$", "", key) for key in keys} | set(keys)
    scripts = [path for path in DEVICE.rglob("*.js") if "vendor" not in path.parts]
    used = {key for script in scripts for key in USED.findall(script.read_text(encoding="utf-8"))}
    assert len(used) > 50
    assert used - stems == set()


def test_the_rehearsal_has_the_button_of_each_later_approval(person: Person) -> None:
    person.open("/")
    for language, parts in person.page.evaluate(READ).items():
        assert parts["enrol"]["enrol.try.button"] == parts["ask"]["ask.approve"], language
        # One term for one thing: the lock of the screen, signing, the five pictures.
        texts = " ".join(text for part in parts.values() for text in part.values())
        assert not re.search("Displaysperre|[Uu]nterschr|[Pp]i(k|c)togram", texts), language


def test_the_language_is_the_one_that_was_set_or_the_first_of_the_browser(person: Person) -> None:
    person.open("/")
    choose = """async () => {
      const { chooseLanguage } = await import("/assets/device/texts/language.js");
      const browsers = [["fr", ["de"]], [undefined, ["es-ES", "de-CH", "en"]], [undefined, ["pt"]]];
      const cases = [...browsers, ["xx", []], ["constructor", []]];
      return cases.map(([set, preferred]) => chooseLanguage(set, preferred));
    }"""
    assert person.page.evaluate(choose) == ["fr", "de", "en", "en", "en"]
