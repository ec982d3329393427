"""A denoiser's forward pass as a CUDA graph: its kernels are launched all at once."""

from __future__ import annotations

from typing import Any

import torch

from mia_hub.models.families.base import NetworkModel

WARM_UPS = 3


class GraphedPass:
    """The forward pass of a denoiser at one batch size, captured once.

    Args:
        model: on CUDA.
        x, t, cond: inputs of `NetworkModel.output`. The graph reads them where they lie: write other values into them to query anew.

    Attributes:
        output: of the latest pass; the next one overwrites it.
    """

    def __init__(self, model: NetworkModel, x: torch.Tensor, t: torch.Tensor, cond: Any):
        with torch.cuda.device(x.device):
            self._graph = torch.cuda.CUDAGraph()
            # Before the capture, libraries choose their kernels and get their memory, on another stream than the default one.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    model.output(x, t, cond)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self._graph):
                self.output = model.output(x, t, cond)

    def __call__(self) -> torch.Tensor:
        """Run the pass; return `output`."""
        self._graph.replay()
        return self.output
