"""The single pass over a source: rows are read, checked, counted and fingerprinted once."""
