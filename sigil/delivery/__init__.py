"""What pushes and webhooks share: backlog, candidates, work in flight, circuit breaker."""
