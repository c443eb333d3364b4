"""A job on this machine: its folder, its one owner, its place in the queue, its process."""
