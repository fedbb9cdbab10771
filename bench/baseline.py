"""The baseline that results are compared with, and its machine: bench/baseline.json."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.comparison import Figure

FILE = Path(__file__).with_name("baseline.json")


@dataclass(frozen=True)
class Baseline:
    """`calibration` is the best raw P-256 verification of the whole run, in seconds; figures go by name."""

    machine: str
    cores: int
    system: str
    python: str
    cryptography: str
    date: str
    calibration: float
    benchmarks: dict[str, Figure]


NOTHING = Baseline("", 0, "", "", "", "", 0.0, {})


def load(file: Path = FILE) -> Baseline:
    """The content of the file; NOTHING if there is no file."""
    return msgspec.json.decode(file.read_bytes(), type=Baseline) if file.exists() else NOTHING


def save(baseline: Baseline, file: Path = FILE) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n")


def of_this_machine(calibration: float, figures: dict[str, Figure]) -> Baseline:
    return Baseline(
        machine=_processor(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cryptography=version("cryptography"),
        date=datetime.now(UTC).date().isoformat(),
        calibration=_four_digits(calibration),
        benchmarks={name: _rounded(figure) for name, figure in figures.items()},
    )


def _processor() -> str:
    """The model of the processor, if Linux reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _rounded(figure: Figure) -> Figure:
    return Figure(_four_digits(figure.best), figure.unit, _four_digits(figure.multiple), _four_digits(figure.others))


def _four_digits(value: float) -> float:
    """Four significant digits: more than two runs on one machine have in common."""
    return float(f"{value:.4g}")
