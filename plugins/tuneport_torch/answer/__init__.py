"""A model in use: answers, and how well it foretells rows."""
