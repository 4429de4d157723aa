"""Deterministic mutation fuzz of every reader; `python3 dev.py fuzz` is the long run."""
