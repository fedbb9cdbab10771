"""The Grafana dashboards of deploy/observability, written from these definitions."""
