"""What runs between requests: checks of files, starts of jobs, and the thread that follows jobs to their end."""
