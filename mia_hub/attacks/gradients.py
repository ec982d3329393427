"""Gradients of losses by inputs of the model: an image, or the embedding of a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mia_hub.errors import ModelError


def input_gradients(total: torch.Tensor, inputs: Sequence[torch.Tensor], id: str) -> tuple[torch.Tensor, ...]:
    """Return the gradients of a sum of losses.

    Args:
        total: the sum.
        inputs: by which it is differentiated.
        id: of the model, for messages.

    Raises:
        ModelError: if none reaches the inputs.
    """
    gradients = torch.autograd.grad(total, inputs, allow_unused=True) if total.requires_grad else ()
    if not gradients or any(gradient is None for gradient in gradients):
        raise ModelError(
            f"No gradient reaches the image or the text embedding of {id}: its forward pass switches gradients off, or doesn't depend on "
            "them. Choose an attack without gradients."
        )
    return gradients
