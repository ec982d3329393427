"""Recipes that made the embedded demo model: seeded and resumable, on CPU or GPU."""
