"""The worker: claims requests, evaluates them, publishes the results."""
