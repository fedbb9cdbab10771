"""The contents of a wheel that is built from the source distribution."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(tree: Path, kind: str, into: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)]
    built = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (artefact,) = into.iterdir()
    return artefact


@pytest.fixture(scope="session")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel without its metadata."""
    folder = tmp_path_factory.mktemp("package")
    unpacked = folder / "tree"
    unpacked.mkdir()
    archive = build(ROOT, "sdist", folder / "sdist")
    # Not by tarfile: Python 3.11.2 of Debian 12 has no `filter`, and newer versions require it.
    subprocess.run(["tar", "-xzf", archive, "-C", unpacked], check=True)
    (tree,) = unpacked.iterdir()
    with zipfile.ZipFile(build(tree, "wheel", folder / "wheel")) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}


def source_files(package: str) -> set[str]:
    files = (file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(ROOT)) for file in files}


def test_the_wheel_contains_both_packages_and_nothing_else(wheel_files: set[str]) -> None:
    assert wheel_files == source_files("sigil") | source_files("relay")


def test_the_wheel_contains_every_page_and_its_assets(wheel_files: set[str]) -> None:
    pages = {name for name in wheel_files if name.startswith("sigil/pages/")}
    assert pages == {f"sigil/pages/{path.name}" for path in (ROOT / "sigil" / "pages").iterdir() if path.is_file()}
    assert "sigil/pages/init.html" in pages
