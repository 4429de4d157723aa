"""Processes that do the work: who they are, what they may take, what they are asked to do, and rows as they come back."""
