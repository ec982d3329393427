"""Requests: what people submit, its validation, and the queue."""
