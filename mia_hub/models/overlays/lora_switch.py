"""LoRAs switched off, so that one set of weights serves as a model and as its base."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class LoRASwitch:
    """Switches all LoRAs in some modules on or off for the length of a pass; one thread at a time is in a pass.

    Args:
        modules: those that LoRAs were put on.
    """

    def __init__(self, modules: Sequence[Any]):
        from peft.tuners.tuners_utils import BaseTunerLayer

        self._layers = [layer for module in modules for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_layers": self._layers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._layers, self._lock = state["_layers"], threading.RLock()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Context of a pass with the LoRAs."""
        with self._lock:
            yield

    @contextmanager
    def off(self) -> Iterator[None]:
        """Context of a pass through the base: each layer computes what it did before a LoRA was put on it, to the bit."""
        with self._lock:
            try:
                self._set(disabled=True)
                yield
            finally:
                self._set(disabled=False)

    def _set(self, *, disabled: bool) -> None:
        for layer in self._layers:
            # peft's own method, enable_adapters, also makes the weights require gradients when it switches them on again.
            layer._disable_adapters = disabled
