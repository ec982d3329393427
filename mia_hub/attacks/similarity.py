"""Structural similarity of two images (Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment")."""

from __future__ import annotations

import torch
from torch.nn import functional as F

WINDOW = 7
K1, K2 = 0.01, 0.03
# Of red, green and blue (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)
# The range of values of an image that has fewer: a step of 8 bits.
SMALLEST_RANGE = 1 / 255


def grey(pixels: torch.Tensor) -> torch.Tensor:
    """Return the luma ``[N, 1, H, W]`` of pixels ``[N, C, H, W]`` with one channel or three."""
    if pixels.shape[1] == 1:
        return pixels
    return (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def structural_similarity(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean SSIM of images of one channel (Eqs. 13 and 14), over all windows of 7x7 pixels that lie inside.

    All pixels of a window count alike, variances are unbiased, and the dynamic range L is that of y: the choices of scikit-image and of
    ReDiffuse's code.

    Args:
        x: ``[N, 1, H, W]``, of 7x7 pixels at least.
        y: as x.

    Returns:
        ``[N]``, in [-1, 1]; 1 for equal images. Computed in float64 if the device has it.
    """
    # A variance is a small difference of two means.
    x, y = (image if image.device.type == "mps" else image.double() for image in (x, y))
    span = (y.amax(dim=(1, 2, 3), keepdim=True) - y.amin(dim=(1, 2, 3), keepdim=True)).clamp_min(SMALLEST_RANGE)
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    mean_x, mean_y = _mean(x), _mean(y)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_x, var_y = unbiased * (_mean(x * x) - mean_x**2), unbiased * (_mean(y * y) - mean_y**2)
    covariance = unbiased * (_mean(x * y) - mean_x * mean_y)
    ssim = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return ssim.mean(dim=(1, 2, 3))


def _mean(values: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(values, WINDOW, stride=1)
