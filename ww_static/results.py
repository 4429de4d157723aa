"""The object that Python users hold: the tables of a run, a summary, and ways out to files and data frames."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ww_static.outputs import render, writers
from ww_static.tables import Tables

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result(Tables):
    """What `analyze` and `describe` give. Iterating yields the rows of the main table; Arrow takes it without a copy."""

    def to_pandas(self) -> pd.DataFrame:
        """The main table as a pandas data frame; pandas must be installed."""
        return self.layers.to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """The main table as a polars data frame; polars must be installed."""
        import polars as pl

        frame = pl.from_arrow(self.layers)
        assert isinstance(frame, pl.DataFrame)  # from_arrow gives a Series only for an array
        return frame

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the result, by suffix: .parquet .arrow .json .jsonl .csv .md .txt, of an audit also .sarif .xml, or a folder with all tables.

        The file appears under its name only when it is complete.

        Raises:
            UsageError: the suffix means nothing.
            OSError: the file cannot be written; what was there before is untouched.
        """
        writers.write(self, os.fspath(path))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.layers.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return render.plain_text(self)

    def _repr_html_(self) -> str:
        return render.html(self)
