"""The tab "How it works": its page, its figure, and the points in it."""
