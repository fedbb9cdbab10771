"""HTTP of the SDK: requests without I/O, retries, deadlines, TLS, and the adapter to httpx."""
