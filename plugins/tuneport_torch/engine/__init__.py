"""The training engine: the loop and its parts."""
