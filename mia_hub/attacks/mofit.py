"""MoFit: a text embedding that is fitted to the model, in place of a caption (arXiv 2602.22689)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.gradients import input_gradients
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import p_norm
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.condition_rows import condition_rows
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel

# The last step towards the fitted image is this share of the first.
LAST_STEP = 0.01


@dataclass(frozen=True, kw_only=True)
class MoFit(Attack):
    """MoFit: L(x|φ*) - L(x|∅), the loss under a fitted embedding less that without a caption, large for members.

    L(x|φ) is ‖e - ε(x_t, t, φ)‖₂², a mean over elements, with one draw of e. Two fits come first. The image is fitted: x̂ begins as x plus
    uniform noise of ±radius. Each step moves its pixels against the sign of the gradient of L(x̂|∅) and keeps them in [-1, 1]; the size of
    the steps falls linearly to a hundredth. The embedding is fitted: Adam minimises L(x̂|φ). An embedding that suits x̂ suits a member x
    badly, since the model knows the member's own caption.

    φ starts from the caption passed to `score`, for which the authors take that of a captioning model, or from the empty one. Of models
    with several encodings the first is fitted, that of the words. Each of the 1,300 fitting steps is a forward and a backward pass: **this
    attack costs hundreds of times what the others do**.

    Attributes:
        timesteps: 140 in the paper.
        image_steps: steps towards x̂; 1,000 in the paper.
        embedding_steps: steps of Adam; 200, 300 or 1,000 in the paper, by data set.
        radius: of the uniform draw, in pixels of [-1, 1].
        step: size of the first step, in pixels of [-1, 1].
        learning_rate: Adam's; the authors' script for COCO has 0.06.
    """

    timesteps: tuple[int, ...] = (140,)
    image_steps: int = 1000
    embedding_steps: int = 300
    radius: float = 0.3
    step: float = 0.15
    learning_rate: float = 0.06

    name: ClassVar[str] = "mofit"
    paper: ClassVar[str] = "arXiv 2602.22689"
    access: ClassVar[str] = "white"
    needs_text: ClassVar[bool] = True
    log_scale: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_steps", "embedding_steps"):
            object.__setattr__(self, name, integer_at_least(name, getattr(self, name), 1, AttackError))
        for name in ("radius", "step", "learning_rate"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise AttackError(f"{name} must be a number above 0; got {value!r}.")

    @property
    def queries_per_image(self) -> int:
        return len(self.timesteps) * (self.image_steps + self.embedding_steps + 2)

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        if model.info.conditioning != "text":
            raise AttackError(
                f"The attack {self.name!r} fits the embedding of a text, and {model.info.id} isn't conditioned on text. Choose another "
                "attack."
            )

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        parts = []
        # A graph holds all rows of a pass, so that fewer rows must go through all steps together.
        for start in range(0, len(x0), model.rows):
            rows = slice(start, min(start + model.rows, len(x0)))
            draws = replace(noise, ids=noise.ids[rows])
            fits = [self._fit(model, x0[rows], model.pixels[rows], condition_rows(cond, rows), draws, t) for t in self.timesteps]
            parts.append(torch.stack(fits, dim=1))
        return torch.cat(parts)

    def _fit(self, model: QueriedModel, x0: torch.Tensor, pixels: torch.Tensor, cond: Any, noise: SampleNoise, t: int) -> torch.Tensor:
        """Return L(x|∅) - L(x|φ*) ``[N]`` at one timestep."""
        e, empty = noise(t), model.condition([""] * len(x0))
        uniform = 2 * torch.special.ndtr(replace(noise, shape=tuple(pixels.shape[1:]))(t, 1)) - 1
        loss = partial(_loss, model, e, t)
        fitted = self._fitted_image(model, lambda x: loss(x, empty), 2 * pixels - 1, uniform)
        embedding = self._fitted_embedding(lambda condition: loss(fitted, condition), cond, model.info.id)
        return loss(x0, empty) - loss(x0, embedding)

    def _fitted_image(
        self, model: QueriedModel, loss: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Return x̂ in model space.

        Args:
            loss: of x̂ in model space, ``[N]``.
            image: ``[N, C, H, W]`` in [-1, 1].
            uniform: draws of the same shape in [-1, 1].
        """
        image = image + self.radius * uniform
        for k in range(self.image_steps):
            image.requires_grad_(True)
            with torch.enable_grad():
                total = loss(model.model.to_model_space((image + 1) / 2)).sum()
            (gradient,) = input_gradients(total, [image], model.info.id)
            size = self.step * (1 - (1 - LAST_STEP) * k / self.image_steps)
            image = (image.detach() - size * gradient.sign()).clamp(-1, 1)
        return model.model.to_model_space((image + 1) / 2)

    def _fitted_embedding(self, loss: Callable[[Any], torch.Tensor], cond: Any, id: str) -> Any:
        """Return the condition with its first encoding fitted."""
        first = next(iter(cond)) if isinstance(cond, dict) else None
        embedding = (cond if first is None else cond[first]).detach().clone().requires_grad_(True)

        def condition() -> Any:
            return embedding if first is None else {**cond, first: embedding}

        optimizer = torch.optim.Adam([embedding], lr=self.learning_rate)
        for _ in range(self.embedding_steps):
            with torch.enable_grad():
                total = loss(condition()).sum()
            (embedding.grad,) = input_gradients(total, [embedding], id)
            optimizer.step()
        embedding = embedding.detach()
        return condition()


def _loss(model: QueriedModel, e: torch.Tensor, t: int, x: torch.Tensor, cond: Any) -> torch.Tensor:
    """‖e - ε(x_t, t)‖₂² of each row, a mean over its elements."""
    epsilon = model.predict_noise(model.schedule.add_noise(x, e, t), t, cond)
    return p_norm(e - epsilon, 2) ** 2 / e[0].numel()
