"""`make openapi`: writes docs/openapi.json, the description of the HTTP interface for client generators."""

from __future__ import annotations

import json
from pathlib import Path

from sigil import __version__
from sigil.resources.openapi.document import document

TARGET = Path(__file__).resolve().parent.parent.parent / "docs" / "openapi.json"


def main() -> None:
    TARGET.write_text(json.dumps(document(__version__), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
