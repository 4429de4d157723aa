"""The commands, one file per group: parsed, called, printed."""
