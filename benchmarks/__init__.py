"""Measurements of what mia_hub costs; see README.md beside this file."""
