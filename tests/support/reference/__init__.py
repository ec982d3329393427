"""The attacks written out literally from their papers: one sample, one element, one timestep at a time, nothing shared.

Plain Python floats (float64), slow on purpose, and independent of mia_hub. Everywhere ``x0`` is one sample as a flat list of floats,
``alphas_cumprod[t]`` is ᾱ_t, and ``eps(x, t)`` is the model's predicted noise as a flat list of floats.
"""
