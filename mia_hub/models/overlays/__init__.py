"""Overlays on a base model: a LoRA, a fine-tuned part, or a single-file checkpoint."""
