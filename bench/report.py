"""Figures as text: the table of a run, and the table in bench/README.md."""

from __future__ import annotations

from pathlib import Path

from bench.baseline import Baseline
from bench.comparison import Figure, Verdict

README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- written by make bench-update -->\n", "<!-- end -->\n"
_SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def table(verdicts: list[Verdict]) -> list[str]:
    """Lines with name, best, multiple, baseline multiple, change and outcome."""
    width = max((len(verdict.name) for verdict in verdicts), default=0)
    lines = [f"{'benchmark':<{width}}  {'best':>10} {'multiple':>10} {'baseline':>10} {'change':>8}"]
    for verdict in verdicts:
        cells = f"{_best(verdict.figure):>10} {_multiple(verdict.figure):>10} {_multiple(verdict.baseline):>10}"
        lines.append(f"{verdict.name:<{width}}  {cells} {_change(verdict):>8}  {verdict.outcome.value}".rstrip())
    return lines


def progress(name: str, figure: Figure) -> str:
    """The line of a benchmark that has just ended."""
    multiple = "" if figure.unit == "bytes" else f", {_multiple(figure)} verifications"
    return f"{name}: {_best(figure)}{multiple}"


def markdown(baseline: Baseline) -> str:
    """The baseline as a sentence and a table."""
    lines = [
        f"{baseline.machine}, {baseline.cores} cores, {baseline.system}; {baseline.python}, "
        f"cryptography {baseline.cryptography}; {baseline.date}. "
        f"One raw P-256 verification took {seconds(baseline.calibration)}.",
        "",
        "| benchmark | best | multiple |",
        "| --- | ---: | ---: |",
    ]
    rows = [f"| {name} | {_best(figure)} | {_multiple(figure)} |" for name, figure in baseline.benchmarks.items()]
    return "\n".join([*lines, *rows]) + "\n"


def with_results(text: str, baseline: Baseline) -> str:
    """`text` with the baseline's table between its markers; ValueError if it has no markers."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the text has no place for the table; it needs the lines {_BEGIN.strip()} … {_END.strip()}")
    return f"{before}{begin}{markdown(baseline)}{end}{after}"


def rewrite(baseline: Baseline, file: Path = README) -> None:
    file.write_text(with_results(file.read_text(encoding="utf-8"), baseline), encoding="utf-8")


def seconds(value: float) -> str:
    """Three significant digits, in the fitting unit."""
    scale, unit = next((pair for pair in _SCALES if value >= pair[0]), _SCALES[-1])
    return f"{value / scale:.3g} {unit}"


def _best(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return seconds(figure.best) if figure.unit == "s" else f"{figure.best:.0f} B"


def _multiple(figure: Figure | None) -> str:
    if figure is None or figure.unit == "bytes":
        return "" if figure is None else f"{figure.multiple:.0f} B"
    return f"{figure.multiple:.3g}" if figure.multiple < 1000 else f"{figure.multiple:.0f}"


def _change(verdict: Verdict) -> str:
    return "" if verdict.change is None else f"{verdict.change:+.1%}"
