"""Array to row: a tensor surveyed in one pass, the spectra of its matrices, and every column that is made from them."""
