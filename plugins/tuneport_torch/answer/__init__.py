"""Using a model: generating answers, and scoring rows."""
