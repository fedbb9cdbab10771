"""The figures of a running server, read from its /metrics: for `sigil top`. The page /status shows the same ones.

Both read `sigil/pages/status/figures.json`. The arithmetic exists twice, here and in the page's modules;
tests/vectors/status.json holds both to the same results.
"""
