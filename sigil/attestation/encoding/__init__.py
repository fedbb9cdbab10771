"""Strict readers of DER and CBOR: they refuse what a lenient reader could read in two ways."""
