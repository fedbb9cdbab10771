"""`.ci/test` in a small project of its own: which failed tests run a second time, and the exit status."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Fails in its first runs, as many as `failures`, and passes afterwards. The counter file survives the test process.
COUNTING_TEST = """
from pathlib import Path


def test_{name}() -> None:
    counter = Path(__file__).with_name("{name}.runs")
    runs = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(runs + 1))
    assert runs >= {failures}
"""


def make_test_command() -> str:
    """The command of the repository's `make test`."""
    (command,) = re.findall(r"^test:.*\n\t(.+)\n", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return command


class Project:
    """A project with the repository's `.ci/test`, `make test` command, pytest settings and tests/conftest.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tests = folder / "tests"
        self.tests.mkdir()
        (folder / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "test", folder / ".ci" / "test")
        shutil.copy(ROOT / "pyproject.toml", folder)
        shutil.copy(ROOT / "tests" / "conftest.py", self.tests)
        (folder / ".venv").symlink_to(sys.prefix)
        # The target without its engine: here only what follows from its exit status is of interest.
        docker = "test-docker:\n\t$(BIN)/python -m pytest -p no:benchmark -p no:logging -p no:xdist $(TESTS)\n"
        (folder / "Makefile").write_text(
            f"BIN := .venv/bin\nTEST_PROCESSES := 2\ntest:\n\t{make_test_command()}\n{docker}"
        )

    def add_test(self, name: str, *, failures: int = 0) -> None:
        (self.tests / f"test_{name}.py").write_text(COUNTING_TEST.format(name=name, failures=failures))

    def runs(self, name: str) -> int:
        """How many times the test ran."""
        return int((self.tests / f"{name}.runs").read_text())

    def run(self, *target: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`.ci/test`, without the variables of the pytest process that runs this test."""
        return subprocess.run(
            # A shell without job control ignores SIGINT in what it runs in the background, and processes inherit that.
            ["env", "--default-signal=INT", self.folder / ".ci" / "test", *target],
            env={"PATH": os.environ["PATH"], **environ},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def output_of(run: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that `.ci/test` itself wrote, without its prefix."""
    prefix = ".ci/test: "
    return [line.removeprefix(prefix) for line in run.stderr.splitlines() if line.startswith(prefix)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_run_succeeds_when_all_tests_pass(project: Project) -> None:
    project.add_test("good")
    project.add_test("fine")
    run = project.run()
    assert (run.returncode, output_of(run)) == (0, []), run.stdout + run.stderr
    assert (project.runs("good"), project.runs("fine")) == (1, 1)


def test_a_test_that_passes_in_its_second_run_is_listed_and_the_run_succeeds(project: Project) -> None:
    project.add_test("good")
    project.add_test("flaky", failures=1)
    run = project.run()
    assert run.returncode == 0, run.stdout + run.stderr
    assert output_of(run) == ["needed a second run: tests/test_flaky.py::test_flaky"]
    assert (project.runs("good"), project.runs("flaky")) == (1, 2)


def test_a_socket_that_is_left_open_is_an_error_of_the_module_that_left_it(project: Project) -> None:
    """In a cycle, so that it is closed by the garbage collection alone, whenever that comes."""
    leak = "import socket\n\n\ndef test_leak() -> None:\n    cycle = [socket.socket()]\n    cycle.append(cycle)\n"
    (project.tests / "test_a_leak.py").write_text(leak)
    project.add_test("good")
    run = project.run()
    assert run.returncode == 1
    assert "ERROR tests/test_a_leak.py::test_leak" in run.stdout
    assert "unclosed <socket.socket" in run.stdout
    assert output_of(run) == ["failed twice: tests/test_a_leak.py::test_leak"]
    assert project.runs("good") == 1


def test_tests_of_containers_get_a_second_run_by_their_own_target(project: Project) -> None:
    project.add_test("good")
    project.add_test("flaky", failures=1)
    project.add_test("broken", failures=2)
    run = project.run("test-docker")
    assert run.returncode == 1, run.stdout + run.stderr
    assert output_of(run) == [
        "failed twice: tests/test_broken.py::test_broken",
        "needed a second run: tests/test_flaky.py::test_flaky",
    ]
    assert (project.runs("good"), project.runs("flaky"), project.runs("broken")) == (1, 2, 2)


def test_a_test_that_fails_twice_fails_the_run(project: Project) -> None:
    project.add_test("flaky", failures=1)
    project.add_test("broken", failures=2)
    run = project.run()
    assert run.returncode == 1
    assert output_of(run) == [
        "failed twice: tests/test_broken.py::test_broken",
        "needed a second run: tests/test_flaky.py::test_flaky",
    ]
    assert (project.runs("flaky"), project.runs("broken")) == (2, 2)


def test_three_failed_tests_get_a_second_run(project: Project) -> None:
    for number in range(3):
        project.add_test(f"flaky_{number}", failures=1)
    run = project.run()
    assert run.returncode == 0, run.stdout + run.stderr
    assert [project.runs(f"flaky_{number}") for number in range(3)] == [2, 2, 2]


def test_four_failed_tests_fail_the_run_without_a_second_run(project: Project) -> None:
    for number in range(4):
        project.add_test(f"flaky_{number}", failures=1)
    run = project.run()
    assert run.returncode == 1
    assert output_of(run) == ["4 tests failed; at most 3 get a second run"]
    assert [project.runs(f"flaky_{number}") for number in range(4)] == [1, 1, 1, 1]


def test_a_file_that_cannot_be_collected_fails_the_run(project: Project) -> None:
    """pytest-xdist runs the tests of all other files nevertheless, so that this file is what gets the second run."""
    project.add_test("good")
    (project.tests / "test_error.py").write_text("raise RuntimeError('this file cannot be collected')\n")
    run = project.run()
    assert run.returncode == 1
    assert output_of(run) == ["failed twice: tests/test_error.py"]
    assert project.runs("good") == 1


def test_an_interrupted_run_fails_without_a_second_run(project: Project) -> None:
    project.add_test("flaky", failures=1)
    interrupt = "import os\nimport signal\n\n\ndef test_stop() -> None:\n    os.kill(os.getppid(), signal.SIGINT)\n"
    with (project.tests / "test_flaky.py").open("a") as file:
        file.write(f"\n\n{interrupt}")
    run = project.run()
    assert run.returncode == 1
    assert output_of(run) == ["the run ended before all tests had run; the reason is in its last lines"]
    assert project.runs("flaky") == 1


def test_a_run_without_any_test_fails(project: Project) -> None:
    run = project.run()
    assert run.returncode == 1
    assert output_of(run) == ["the run ended before all tests had run; the reason is in its last lines"]


@pytest.mark.parametrize(("environ", "code"), [({"CI": "true"}, 1), ({}, 0)])
def test_a_skipped_test_fails_the_run_in_ci_alone(project: Project, environ: dict[str, str], code: int) -> None:
    project.add_test("good")
    skipped = "import pytest\n\n\ndef test_skipped() -> None:\n    pytest.skip('a part is missing')\n"
    (project.tests / "test_skipped.py").write_text(skipped)
    run = project.run(**environ)
    assert run.returncode == code, run.stdout + run.stderr
    assert output_of(run) == ["failed twice: tests/test_skipped.py::test_skipped"] * code
