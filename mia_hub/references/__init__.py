"""Known images of a model, scored once: what new images are compared with."""
