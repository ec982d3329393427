"""The worker: claims requests, evaluates them, writes their results."""
