"""Benchmarks whose results are multiples of a raw P-256 verification (bench/README.md)."""
