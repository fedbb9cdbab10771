"""A real Prometheus for tests, on a free port of loopback: it scrapes services of a test every second."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest
import yaml

from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; without it, the test is skipped."""
    path = shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/local/bin")
    if path is None:
        pytest.skip(f"there is no {name}: `make test-deps` installs it")
    return path


@dataclass(frozen=True)
class Target:
    """What Prometheus scrapes: a base URL, the certificate that verifies it, the token of `/metrics`."""

    job: str
    url: str
    certificate: Path | None = None
    token: str = ""

    @classmethod
    def of(cls, service: LiveServer | LiveRelay) -> Target:
        """The job `sigil` or `relay` for a running service."""
        token = service.environ.get("METRICS_TOKEN", "")
        if isinstance(service, LiveServer):
            return cls("sigil", service.url, service.certificate, token)
        return cls("relay", service.url, None, token)


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and points of (Unix time, value)."""

    labels: dict[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The newest one."""
        return self.points[-1][1]


class QueryError(AssertionError):
    """Prometheus did not take a query."""


class Prometheus:
    """`with Prometheus(Target.of(server), Target.of(relay), rules=[…]) as prometheus: …`.

    It enters with all targets up; with `targets_up=False` as soon as it answers.
    """

    def __init__(self, *targets: Target, rules: Sequence[Path] = (), targets_up: bool = True) -> None:
        self._program = program("prometheus")
        self.directory = Path(tempfile.mkdtemp(prefix="sigil-prometheus-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = self.directory / "log"
        self.configuration = self.directory / "prometheus.yml"
        self._targets, self._rules, self._targets_up = targets, rules, targets_up
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(base_url=f"{self.url}/api/v1", trust_env=False, timeout=DEADLINE)

    def __enter__(self) -> Prometheus:
        try:
            return self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _start(self) -> Prometheus:
        self.configuration.write_text(yaml.safe_dump(self._settings()))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self.configuration}",
                    f"--storage.tsdb.path={self.directory / 'data'}",
                    "--storage.tsdb.retention.time=1d",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                env={"PATH": os.environ.get("PATH", "")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
            )
        wait_until(self._answers, "Prometheus")
        wait_until(lambda: len(self.targets()) == len(self._targets), "Prometheus to take its targets")
        if self._targets_up:
            wait_until(self._all_up, f"the targets of Prometheus to be up: {self.url}/targets")
        return self

    def _settings(self) -> dict[str, Any]:
        return {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path.absolute()) for path in self._rules],
            "scrape_configs": list(self._jobs()),
        }

    def _jobs(self) -> Iterator[dict[str, Any]]:
        jobs: dict[str, dict[str, Any]] = {}
        for number, target in enumerate(self._targets):
            scheme, _, address = target.url.partition("://")
            if (job := jobs.get(target.job)) is not None:
                # Several targets of one job share its scheme, certificate and token, as in an installation.
                job["static_configs"][0]["targets"].append(address)
                continue
            job = jobs[target.job] = {
                "job_name": target.job,
                "scheme": scheme,
                "static_configs": [{"targets": [address]}],
            }
            if target.certificate is not None:
                job["tls_config"] = {"ca_file": str(target.certificate)}
            if target.token:
                token = self.directory / f"token-{number}"
                token.touch(0o600)
                token.write_text(target.token)
                job["authorization"] = {"credentials_file": str(token)}
        yield from jobs.values()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Prometheus ended: {self.log_path.read_text()}"
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False, timeout=DEADLINE).status_code == 200
        except httpx.HTTPError:
            return False

    def _all_up(self) -> bool:
        return all(target["health"] == "up" for target in self.targets())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _get(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(path, params=parameters).json()
        if answer["status"] != "success":
            raise QueryError(f"{answer['errorType']}: {answer['error']}: {parameters}")
        return answer["data"]

    def targets(self) -> list[dict[str, Any]]:
        """`/api/v1/targets`: labels, health (up, down, unknown), lastError, lastScrape."""
        targets: list[dict[str, Any]] = self._get("/targets", state="active")["activeTargets"]
        return targets

    def rules(self) -> list[dict[str, Any]]:
        """The rules of all groups: name, query, health (ok, err, unknown), lastError, state of an alert."""
        return [rule for group in self._get("/rules")["groups"] for rule in group["rules"]]

    def alerts(self) -> list[dict[str, Any]]:
        """`/api/v1/alerts`: labels, annotations, state (pending, firing) of those that are active."""
        alerts: list[dict[str, Any]] = self._get("/alerts")["alerts"]
        return alerts

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.alerts() if alert["state"] == "firing"}

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """An instant query, at a Unix time or now; QueryError when Prometheus rejects it."""
        at_time = {} if at is None else {"time": str(at)}
        data = self._get("/query", query=expression, **at_time)
        if data["resultType"] == "scalar":
            return [Series({}, (_point(data["result"]),))]
        return [Series(found["metric"], (_point(found["value"]),)) for found in data["result"]]

    def value(self, expression: str) -> float:
        """That of the only series of an instant query."""
        (series,) = self.query(expression)
        return series.value

    def query_range(self, expression: str, start: float, end: float, step: float = 1) -> list[Series]:
        """A range query between two Unix times, one point each `step` seconds."""
        data = self._get("/query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return [Series(found["metric"], tuple(map(_point, found["values"]))) for found in data["result"]]

    def wait_for_scrape(self) -> None:
        """Waits until each target was scraped after this call, whether it answered or not."""
        # Two scrapes: the first one may have begun before.
        for _ in range(2):
            before = self._scrape_times()
            wait_until(
                lambda before=before: all(now != old for now, old in zip(self._scrape_times(), before, strict=True)),
                "a scrape",
            )

    def _scrape_times(self) -> list[str]:
        return [target["lastScrape"] for target in sorted(self.targets(), key=lambda found: str(found["scrapeUrl"]))]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(DEADLINE)
        shutil.rmtree(self.directory, ignore_errors=True)


def _point(found: list[Any]) -> tuple[float, float]:
    return float(found[0]), float(found[1])
