"""The training engine: the loop, and what it stands on."""
