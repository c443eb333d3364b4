"""Move from a vendor: list what an account has, and bring a job home with everything needed to train it again."""
