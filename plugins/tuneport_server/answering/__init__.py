"""Answers with loaded models: questions from all requests, batched per model, within a limit on memory."""
