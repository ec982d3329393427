"""SimA and SimA-MC: the norm of the predicted noise (arXiv 2509.25003)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import islice
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.checks import check_choice, check_norm
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.vectors import Draws, VectorAttack
from mia_hub.errors import AttackError
from mia_hub.models.noise import SampleNoise

AUTHORS_GRID = tuple(range(0, 201, 10))
HARDNESS_ORDERS = (1, 2, 4)
Input = Literal["clean", "scaled", "noised"]
Form = Literal["vector-mean", "norm-mean", "error-mean"]


def p_norm(epsilon: torch.Tensor, p: float) -> torch.Tensor:
    """Return ‖ε‖_p (with the root) over all elements of each sample.

    Args:
        epsilon: ``[N, …]``.
        p: order of the norm.

    Returns:
        ``[N]``, summed in float64 if the device has it.
    """
    wide: torch.Tensor = epsilon.flatten(1) if epsilon.device.type == "mps" else epsilon.flatten(1).double()
    if p == 4:  # many times faster than by powers
        norm: torch.Tensor = torch.linalg.vector_norm(wide.square(), dim=1).sqrt()
    else:
        norm = torch.linalg.vector_norm(wide, ord=p, dim=1)
    return norm


@dataclass(frozen=True, kw_only=True)
class SimA(VectorAttack):
    """SimA: S_t(x0) = ‖ε(x0, t)‖_p, one query per timestep, small for members.

    The *clean* image is fed with the timestep's label. (The paper's Eq. 1 is written on x_t; the single-query attack is
    its point estimate at zero noise. The authors' code sums |ε|⁴ without the root, which ranks the same.)

    Attributes:
        timesteps: the authors' grid for pixel models, 0, 10, …, 200, by default; they call 10 … 150 the strong region.
        p: order of the norm; 4 in the paper.
        input: the input at timestep t: "clean" x0 (default), "scaled" √ᾱ_t·x0, or "noised" one draw of x_t.
    """

    timesteps: tuple[int, ...] = AUTHORS_GRID
    p: float = 4
    input: Input = "clean"

    name: ClassVar[str] = "sima"
    paper: ClassVar[str] = "arXiv 2509.25003"
    access: ClassVar[str] = "gray"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_norm(self.p)
        check_choice("input", self.input, get_args(Input))

    @property
    def queries_per_image(self) -> int:
        return len(self.timesteps)

    def length(self, vector: torch.Tensor) -> torch.Tensor:
        return p_norm(vector, self.p)

    def hardness(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return logs of the norms of several orders, ``[N, T, 3]``: the shape of the predicted noise, which costs no further query."""
        return torch.stack([self.log_norms(epsilon) for epsilon in self.vectors(model, x0, cond, noise)], dim=1)

    def log_norms(self, epsilon: torch.Tensor) -> torch.Tensor:
        """Return what `hardness` says of a prediction ``[N, …]``: ``[N, F]``."""
        return _norms(epsilon).log()

    def vectors(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: Draws) -> Iterator[torch.Tensor]:
        def x(_: int, t: int) -> torch.Tensor:
            if self.input == "clean":
                return x0
            if self.input == "scaled":
                return model.schedule.signal(t, x0) * x0
            return model.schedule.add_noise(x0, noise(t), t)

        return model.epsilons(self.timesteps, x, cond)


@dataclass(frozen=True, kw_only=True)
class SimAMC(Attack):
    """SimA-MC: the Monte Carlo form of SimA, n queries per timestep at noised inputs x_t^(k), small for members.

    Attributes:
        timesteps: as SimA's.
        p: order of the norm; 4 in the paper.
        draws: n; the paper uses 10 and 30.
        form: "vector-mean" (default; the authors' later code, as others describe it): ‖(1/n) Σ_k ε(x_t^(k), t)‖_p, the norm of the
            average; "norm-mean" (the paper's Eq. 13): (1/n) Σ_k ‖ε(x_t^(k), t)‖_p, the average of norms; "error-mean" (the authors'
            retrievable code): ‖(1/n) Σ_k (ε(x_t^(k), t) - e^(k))‖_p, the norm of the average error, e^(k) being the k-th draw.
        antithetic: draws come in pairs ±e, which cancel the injected noise to first order; needs an even n.
    """

    timesteps: tuple[int, ...] = AUTHORS_GRID
    p: float = 4
    draws: int = 10
    form: Form = "vector-mean"
    antithetic: bool = False

    name: ClassVar[str] = "sima-mc"
    paper: ClassVar[str] = "arXiv 2509.25003"
    access: ClassVar[str] = "gray"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_norm(self.p)
        check_choice("form", self.form, get_args(Form))
        if not isinstance(self.antithetic, bool):
            raise AttackError(f"antithetic must be True or False; got {self.antithetic!r}.")
        if not isinstance(self.draws, int) or self.draws < 1 or (self.antithetic and self.draws % 2):
            accepted = "an even integer ≥ 2, for antithetic pairs" if self.antithetic else "an integer ≥ 1"
            raise AttackError(f"draws must be {accepted}; got {self.draws!r}.")

    @property
    def queries_per_image(self) -> int:
        return self.draws * len(self.timesteps)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        terms = self.terms(model, x0, cond, noise, [(t, k) for t in self.timesteps for k in range(self.draws)])
        return torch.stack([self.concluded(reduce(torch.add, islice(terms, self.draws)) / self.draws) for _ in self.timesteps], dim=1)

    def terms(
        self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise, draws: Sequence[tuple[int, int]]
    ) -> Iterator[torch.Tensor]:
        """Yield the term of each draw, a pair (timestep, number), in the mean: a vector ``[N, …]``, or its norm ``[N]``."""
        # Draws whose prediction is pending: only those of one forward pass.
        pending: deque[torch.Tensor] = deque()

        def x(query: int, t: int) -> torch.Tensor:
            k = draws[query][1]
            e = noise(t, k // 2) * (-1) ** k if self.antithetic else noise(t, k)
            pending.append(e)
            return model.schedule.add_noise(x0, e, t)

        for epsilon in model.epsilons([t for t, _ in draws], x, cond):
            e = pending.popleft()
            vector = epsilon - e if self.form == "error-mean" else epsilon
            yield p_norm(vector, self.p) if self.form == "norm-mean" else vector

    def concluded(self, mean: torch.Tensor) -> torch.Tensor:
        """Return the statistic ``[N]`` from the mean of the terms."""
        return mean if self.form == "norm-mean" else p_norm(mean, self.p)

    def hardness_for_base(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return logs of the statistic with norms of several orders, ``[N, T, 3]``, as `SimA.hardness`."""
        vectors = replace(self, form="vector-mean") if self.form == "norm-mean" else self
        terms = vectors.terms(model, x0, cond, noise, [(t, k) for t in self.timesteps for k in range(self.draws)])
        columns = []
        for _ in self.timesteps:
            draws = islice(terms, self.draws)
            if self.form == "norm-mean":
                columns.append(reduce(torch.add, map(_norms, draws)) / self.draws)
            else:
                columns.append(_norms(reduce(torch.add, draws) / self.draws))
        return torch.stack(columns, dim=1).log()


def _norms(vector: torch.Tensor) -> torch.Tensor:
    """Norms of several orders, ``[N, 3]``."""
    return torch.stack([p_norm(vector, p) for p in HARDNESS_ORDERS], dim=1)
