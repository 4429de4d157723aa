"""Readers that come with ww-static: one format, one file. They are found through the entry points, like any other."""
