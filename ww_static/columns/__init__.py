"""The columns of a row, one class per topic; `rows.LayerRow` has them all."""
