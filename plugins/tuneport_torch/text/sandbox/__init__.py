"""Programs that run a model's own files (template, tokenizer, schema) in child processes with limits.

Each script is started by a file of the folder above. They import no torch and nothing of tuneport outside this folder.
"""
