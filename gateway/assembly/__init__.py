"""Builds every object once and joins them; no decisions.

`parts` is what needs no connection and is built the same way to serve and to check, `life` is a gateway from its first
connection to its last record.
"""
