"""A population that closed-form denoisers know everything about: samples of a Gaussian mixture, as images."""

from __future__ import annotations

import torch


def mixture_images(count: int, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images of six kinds.

    Returns:
        means ``[6, *shape]``, float64, in model space; the kind of each image ``[count]``; the images ``[count, *shape]`` in [0, 1],
        as float32, which is what an image keeps.
    """
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(6, *shape, generator=generator, dtype=torch.float64) * 1.2 - 0.6
    kind = torch.randint(0, 6, (count,), generator=generator)
    samples = means[kind] + 0.1 * torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    assert samples.abs().max() < 1
    return means, kind, (samples / 2 + 0.5).float()
