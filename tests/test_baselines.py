"""Baselines: which findings are known, what a run is compared with, and what is said when it cannot be."""
