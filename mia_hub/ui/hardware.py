"""What the page runs on. On ZeroGPU a Space is lent a GPU for one call of a function at a time; elsewhere nothing here has an effect."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space: there, models go to "cuda" in the main thread, before the page is launched."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(duration: int | Callable[..., int]) -> Callable[[Function], Function]:
    """Marks the function that asks a model; on ZeroGPU it then runs with a GPU, in a process forked for it.

    What goes in and comes out is pickled there, and an error would come out without its message: give and return plain values, also for
    what went wrong.

    Args:
        duration: seconds that a call takes at most, or a function of its arguments that says so. A shorter one waits less.

    Returns:
        `spaces.GPU` on ZeroGPU, where that package is there; a decorator that changes nothing elsewhere.
    """
    if is_zero_gpu():
        try:
            import spaces
        except ImportError:
            pass
        else:
            return spaces.GPU(duration=duration)
    return lambda function: function
