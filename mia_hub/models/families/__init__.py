"""One adapter for each family of diffusion models."""
