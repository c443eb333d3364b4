"""Turns examples into token ids, with proof of which of them are trained; without torch."""
