"""Foreign rows in, checked examples out."""
