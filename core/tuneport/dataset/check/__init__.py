"""Examples to findings: the checks of one row, of the file, and of all rows together."""
