"""Where the page runs: for strangers or at home, and on which hardware.

On ZeroGPU a Space borrows a GPU for one call of a function at a time; elsewhere that part has no effect.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

# Set by `mia-hub app --public`.
PUBLIC = "MIA_HUB_PUBLIC"
Function = TypeVar("Function", bound=Callable[..., Any])


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space: there, models go to "cuda" in the main thread, before the page is launched."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def is_public() -> bool:
    """Whether strangers use this page: on a Space, or with ``mia-hub app --public``. Then limits hold, and nothing of theirs is kept."""
    return bool(os.environ.get("SPACE_ID") or os.environ.get(PUBLIC))


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
