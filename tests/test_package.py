"""The contents of a wheel that is built from the source distribution."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sigil.protocol.encoding.pictogram import TABLE

ROOT = Path(__file__).parent.parent


def build(tree: Path, kind: str, into: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)]
    built = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (artefact,) = into.iterdir()
    return artefact


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    unpacked = folder / "tree"
    unpacked.mkdir()
    archive = build(ROOT, "sdist", folder / "sdist")
    # Not by tarfile: Python 3.11.2 of Debian 12 has no `filter`, and newer versions require it.
    subprocess.run(["tar", "-xzf", archive, "-C", unpacked], check=True)
    (tree,) = unpacked.iterdir()
    return build(tree, "wheel", folder / "wheel")


@pytest.fixture(scope="session")
def wheel_files(wheel: Path) -> set[str]:
    """The files of the wheel without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def source_files(package: str) -> set[str]:
    files = (file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(ROOT)) for file in files}


def test_the_wheel_contains_both_packages_their_man_pages_and_nothing_else(wheel_files: set[str]) -> None:
    pages = {name for name in wheel_files if ".data/data/share/man/man1/" in name}
    assert {name.rpartition("/")[2] for name in pages} == {"sigil.1", "sigil-relay.1"}
    assert wheel_files - pages == source_files("sigil") | source_files("relay")


def test_the_wheel_contains_every_page_and_its_assets(wheel_files: set[str]) -> None:
    pages = {name for name in wheel_files if name.startswith("sigil/pages/")}
    assert pages == {name for name in source_files("sigil") if name.startswith("sigil/pages/")}
    assert {"sigil/pages/init.html", "sigil/pages/pictograms/bell.svg", "sigil/pages/pictograms/NOTICE"} <= pages


def test_an_installed_wheel_has_the_drawings_and_their_licence(wheel: Path, tmp_path: Path) -> None:
    pip = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run([sys.executable, *pip], check=True, timeout=300)
    program = "import sigil.resources.pages as pages; print(pages.__file__, *pages.PageFiles.load().assets)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    where, *assets = done.stdout.split()
    assert where.startswith(str(tmp_path))
    assert {f"pictograms/{name}.svg" for _, name in TABLE} <= set(assets)
    (licences,) = (tmp_path / "site").glob("sigil_auth-*.dist-info/licenses")
    assert (licences / "LICENSE").is_file()
    assert (licences / "sigil" / "pages" / "pictograms" / "NOTICE").is_file()
    assert (licences / "sigil" / "pages" / "device" / "vendor" / "jsQR.LICENSE.txt").is_file()
    assert {"device/vendor/jsQR.js", "device/vendor/jsQR.LICENSE.txt"} <= set(assets)


def test_no_text_installs_this_project_by_a_name_of_the_public_index() -> None:
    """It is not published: a package of that name there is another party's."""
    suffixes = (".py", ".md", ".html", ".js", ".sh", ".yml", ".toml")
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    by_name = re.compile(r"\b(?:install|add|uvx)\s+(?:-\S+\s+)*['\"]?sigil(?:[-_]?auth)?(?![\w/])")
    found = [
        f"{name}: {match[0]}"
        for name in listed
        if name.endswith(suffixes) and (ROOT / name).exists()
        for match in by_name.finditer((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert found == []
