"""What is known of vendors' models: a dated table, and how to count tokens."""
