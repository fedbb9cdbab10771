"""Findings of checks: what each of them found, its remedy, and how commands print them."""
