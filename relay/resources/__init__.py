"""HTTP and WebSocket only: decode, call one service method, choose a status."""
