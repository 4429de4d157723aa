"""The spectral core: pure functions of arrays, one idea per file. X means W^T W, with no 1/N, unless said."""
