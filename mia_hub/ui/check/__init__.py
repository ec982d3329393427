"""The tab "Check an image": fields, the events that start and cancel a check, and its answer."""
