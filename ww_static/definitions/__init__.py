"""What the columns mean, beyond their one line: formulas, null rules, sources, and what each can and cannot tell."""
