"""`make dashboards`: writes deploy/observability/grafana/dashboards/ from the definitions of this package."""

from __future__ import annotations

from pathlib import Path

from deploy.tools.dashboards import relay, sigil

FOLDER = Path(__file__).resolve().parents[2] / "observability" / "grafana" / "dashboards"
DASHBOARDS = {"sigil.json": sigil.DASHBOARD, "relay.json": relay.DASHBOARD}


def main() -> None:
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(dashboard.text(), encoding="utf-8")


if __name__ == "__main__":
    main()
