"""Parts of the queries that both dashboards share. `$__rate_interval` is at least four scrapes (Grafana)."""

from __future__ import annotations

INSTANCE = 'instance=~"$instance"'
_RANGE = "[$__rate_interval]"


def chosen(metric: str, *labels: str) -> str:
    """The series of the chosen instances; `labels` are further matchers."""
    return f"{metric}{{{', '.join((*labels, INSTANCE))}}}"


def total(metric: str, *labels: str, by: str = "") -> str:
    """A gauge, summed over instances."""
    return f"sum{_by(by)} ({chosen(metric, *labels)})"


def rate(metric: str, *labels: str, by: str = "") -> str:
    """A counter, per second."""
    return f"sum{_by(by)} (rate({chosen(metric, *labels)}{_RANGE}))"


def increase(metric: str, *labels: str, by: str = "") -> str:
    """A counter, how much it grew from one point to the next: for what is rare."""
    return f"sum{_by(by)} (increase({chosen(metric, *labels)}{_RANGE}))"


def quantile(share: float, metric: str, *labels: str, by: str = "") -> str:
    """Of a histogram, over the observations of all instances."""
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', *labels, by=groups)})"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
