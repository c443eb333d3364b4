"""Rows to examples: what columns mean, and how each known shape becomes a conversation, completion or preference."""
