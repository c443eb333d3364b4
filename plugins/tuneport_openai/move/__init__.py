"""Move from a vendor: what an account has, and each job brought home with all that is needed to train it again."""
