"""Train on this machine with PyTorch: the `torch:` backend of tuneport."""

TUNEPORT_API = 1
