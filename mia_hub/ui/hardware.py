"""Where the page runs: for strangers or at home, within which limit, and on which hardware.

On ZeroGPU a Space borrows a GPU for one call of a function at a time; elsewhere that part has no effect.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from mia_hub.errors import MiaHubError
from mia_hub.system.sizes import parse_size

# Set by `mia-hub app --public` and `--largest-weights`.
PUBLIC, LARGEST_WEIGHTS = "MIA_HUB_PUBLIC", "MIA_HUB_LARGEST_WEIGHTS"
# Bytes of weights. Nobody's own machine is protected from its owner.
LARGEST_IN_PUBLIC, LARGEST_AT_HOME = 2 * 2**30, 2**40
Function = TypeVar("Function", bound=Callable[..., Any])


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space: there, models go to "cuda" in the main thread, before the page is launched."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def is_public() -> bool:
    """Whether strangers use this page: on a Space, or with ``mia-hub app --public``. Then limits hold, and nothing of theirs is kept."""
    return bool(os.environ.get("SPACE_ID") or os.environ.get(PUBLIC))


def largest_weights() -> int:
    """Return the most bytes of weights that a model on this page may have: MIA_HUB_LARGEST_WEIGHTS, or 2 GiB for strangers.

    Raises:
        MiaHubError: if the variable is no size.
    """
    text = os.environ.get(LARGEST_WEIGHTS)
    if not text:
        return LARGEST_IN_PUBLIC if is_public() else LARGEST_AT_HOME
    return weights_limit(text, LARGEST_WEIGHTS)


def weights_limit(text: str, name: str) -> int:
    """Return a limit on weights in bytes; ``name`` is that of the option or variable that states it.

    Raises:
        MiaHubError: if the text is no size.
    """
    try:
        return parse_size(text)
    except ValueError as error:
        raise MiaHubError(f"{name} takes {error}.") from None


def on_gpu(duration: int | Callable[..., int]) -> Callable[[Function], Function]:
    """Mark a function that queries a model. On ZeroGPU it then runs with a GPU, in a process forked for it.

    Arguments and results are pickled there, and an exception would arrive without its message: pass and return plain values, also for
    errors.

    Args:
        duration: the most seconds that a call takes, or a function of its arguments that returns them. Shorter calls wait less.

    Returns:
        `spaces.GPU` on ZeroGPU, where that package is installed; a decorator that changes nothing elsewhere.
    """
    if is_zero_gpu():
        try:
            import spaces
        except ImportError:
            pass
        else:
            return spaces.GPU(duration=duration)  # type: ignore[no-any-return]  # the package is installed on Spaces alone
    return lambda function: function
