"""Bytes and text of the wire: base64, hex, times, ids, strict and canonical JSON, text for people, pictograms."""
