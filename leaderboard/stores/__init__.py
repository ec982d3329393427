"""Stores of requests and results: a folder, or data set repositories on the Hub."""
