"""Train a small DDPM on images and canaries that coins drew, with differential privacy (DP-SGD) or without, to test bounds on ε.

python -m training.train_private --out runs/private --epsilon 4
python -m training.train_private --out runs/not-private

The first needs opacus: pip install "mia_hub[private]".
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mia_hub.images.sources import as_images
from mia_hub.splits.canaries import SUFFIX, draw_canaries
from mia_hub.splits.drawing import draw_by_coins
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.origins import Origin
from mia_hub.splits.sources import Pool
from mia_hub.splits.writing import write_split
from mia_hub.system.files import write_text
from mia_hub.system.streams import any_terminal
from training.data import fashion_mnist, model_space
from training.loop import Batch
from training.train_ddpm import SCHEDULER, noise_loss

SIDE = 8
# 0.4 million parameters; each of a batch has a gradient of its own in DP-SGD.
UNET = dict(
    sample_size=SIDE,
    in_channels=1,
    out_channels=1,
    block_out_channels=(24, 48),
    layers_per_block=1,
    norm_num_groups=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)
CLIPPING = 1.0


def train(
    pixels: torch.Tensor, *, steps: int, batch: int, epsilon: float | None, delta: float, learning_rate: float, seed: int, log: Callable
) -> tuple[torch.nn.Module, dict]:
    """Train a network on pixels ``[N, 1, H, W]`` in [-1, 1].

    Every batch is a Poisson draw: each image is in with probability batch / N, as the accounting of DP-SGD requires.

    Args:
        epsilon: of the training at ``delta``, counted by Rényi differential privacy for adding or removing one image; None for a
            training without privacy, which differs in nothing else.
        log: called with the step and the loss at times.

    Returns:
        The network, and the facts of the privacy.

    Source:
        DP-SGD: Abadi et al. 2016, arXiv 1607.00133; the accounting: Mironov et al. 2019, arXiv 1908.10530, by opacus.
    """
    from diffusers import DDPMScheduler, UNet2DModel

    # With 8 or more, an empty draw, of which opacus can make no step, has a chance below e^-8 a step.
    if not 8 <= batch < len(pixels):
        raise SystemExit(f"The batch must be 8 or more, and smaller than the training set of {len(pixels)} images; got {batch}.")
    torch.manual_seed(seed)
    network, scheduler = UNet2DModel(**UNET), DDPMScheduler(**SCHEDULER)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate)
    facts = {"epsilon": epsilon, "delta": delta}
    trained = network
    if epsilon is not None:
        trained, optimizer, facts = _private(network, optimizer, len(pixels), steps, batch, epsilon, delta, seed)
    for step in range(steps):
        rng, generator = np.random.default_rng((seed, step)), torch.Generator().manual_seed(seed * 2**32 + step)
        rows = np.flatnonzero(rng.random(len(pixels)) < batch / len(pixels))
        loss = noise_loss(trained, scheduler, Batch(rows, step, generator, torch.device("cpu")), pixels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 200 == 0:
            log(step + 1, loss.item())
    if epsilon is not None:
        trained.remove_hooks()
    return network, facts


def _private(network, optimizer, samples: int, steps: int, batch: int, epsilon: float, delta: float, seed: int):
    """Return the network with a gradient for each sample, the optimizer that clips them and adds noise, and the facts."""
    from opacus.accountants.utils import get_noise_multiplier
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    # opacus 1.6 reads a convolution's input as if its memory were contiguous. After attention it isn't, and gradients of weights become 0.
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(lambda _, inputs: tuple(each.contiguous() for each in inputs))
    rate = batch / samples
    noise = get_noise_multiplier(target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant="rdp")
    private = DPOptimizer(
        optimizer, noise_multiplier=noise, max_grad_norm=CLIPPING, expected_batch_size=batch, generator=torch.Generator().manual_seed(seed)
    )
    facts = {"epsilon": epsilon, "delta": delta, "noise multiplier": noise, "clipping norm": CLIPPING, "sampling rate": rate}
    return GradSampleModule(network), private, facts


def draw(images: int, canaries: int, seed: int) -> tuple[MemberSplit, MemberSplit]:
    """Return the split of the images and that of the canaries, both by coins."""
    source = fashion_mnist(images, 2, side=SIDE, seed=seed)
    pool = Pool(Origin(source.name, license="mit"), as_images(source.members))
    split = draw_by_coins(pool, seed=seed, progress=False).split
    return split, draw_canaries(canaries, split, seed=seed).split


def members_of(*splits: MemberSplit) -> torch.Tensor:
    """Return the members' pixels ``[N, 1, H, W]`` in [-1, 1]."""
    return model_space(np.array([image.pixels[..., 0] for split in splits for image in split.members]), 1)


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler

    parser = argparse.ArgumentParser(prog="python -m training.train_private", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, and for both splits")
    parser.add_argument("--epsilon", type=float, help="train with DP-SGD at this ε; left out: without privacy")
    parser.add_argument("--delta", type=float, default=1e-5, help="at this δ (default: 1e-5)")
    parser.add_argument("--images", type=int, default=100, help="images whose coins are tossed (default: 100)")
    parser.add_argument("--canaries", type=int, default=200, help="canaries whose coins are tossed (default: 200)")
    parser.add_argument("--steps", type=int, default=1500, help="training steps (default: 1500)")
    parser.add_argument("--batch", type=int, default=32, help="expected images per step (default: 32)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of AdamW (default: 0.002)")
    parser.add_argument("--seed", type=int, default=0, help="of coins, weights, batches and noise (default: 0)")
    args = parser.parse_args(arguments)
    if args.epsilon is not None and not args.epsilon > 0:
        parser.error("--epsilon must be above 0; leave it out to train without privacy.")
    started = time.perf_counter()
    split, canaries = draw(args.images, args.canaries, args.seed)
    network, facts = train(
        members_of(split, canaries),
        steps=args.steps, batch=args.batch, epsilon=args.epsilon, delta=args.delta, learning_rate=args.learning_rate, seed=args.seed,
        log=lambda step, loss: print(json.dumps({"step": step, "loss": round(loss, 5)}), flush=True),
    )  # fmt: skip
    model = args.out / "model"
    DDPMPipeline(network, DDPMScheduler(**SCHEDULER)).save_pretrained(model)
    for part, suffix in ((split, ""), (canaries, SUFFIX)):
        write_split(part, args.out / f"split{suffix}", origins=(Origin(part.name),), shift_check=False, progress=False)
    recipe = {key: getattr(args, key) for key in ("images", "canaries", "steps", "batch", "learning_rate", "seed")}
    seconds = round(time.perf_counter() - started)
    facts |= {"recipe": recipe, "members": len(split.members), "canaries": len(canaries.members), "seconds": seconds}
    write_text(args.out / "training.json", json.dumps(facts, indent=1) + "\n")
    print(f"Written to {args.out}: model, split, split{SUFFIX}.")


if __name__ == "__main__":
    main()
