"""What lies on top of a base model: a LoRA, a fine-tuned part, or a single-file checkpoint."""
