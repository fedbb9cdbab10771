"""WebSocket connections of devices, their limits, and pushes in flight on them."""
