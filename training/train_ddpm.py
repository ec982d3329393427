"""Trains a DDPM on pixels, with or without random flips, and keeps snapshots along the way.

python -m training.train_ddpm --out runs/ddpm-512 --members 512
python -m training.train_ddpm --out runs/ddpm-512-flips --members 512 --flips
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from training.data import SIDES, TrainingSet, emoji, fashion_mnist, model_space
from training.loop import Batch, Learner, Schedule, Training
from training.publish import write_card
from training.quality import floor, frechet_distance

# 1.1 million parameters.
UNET = dict(
    block_out_channels=(32, 64, 64),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
)
SCHEDULER = dict(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
SAMPLES, SAMPLING_STEPS = 256, 50


def noise_loss(network, scheduler, batch: Batch, x0: torch.Tensor, **condition) -> torch.Tensor:
    """‖ε - ε(x_t, t)‖², a mean over everything (arXiv 2006.11239, eq. 14)."""
    noise, t = batch.randn(*x0.shape), batch.timesteps(scheduler.config.num_train_timesteps)
    return torch.nn.functional.mse_loss(network(scheduler.add_noise(x0, noise, t), t, **condition).sample.float(), noise)


def mirrored(x0: torch.Tensor, batch: Batch, seed: int) -> torch.Tensor:
    """Every picture, or its mirror image, with equal chances; drawn apart from the noise, which stays that of the plain recipe."""
    flips = torch.from_numpy(np.random.default_rng((seed, batch.step, 1)).random(len(x0)) < 0.5).to(x0.device)
    return torch.where(flips[:, None, None, None], x0.flip(-1), x0)


def sample(network, scheduler_config: dict, shape: tuple[int, ...], n: int, *, seed: int = 0, device="cpu", **condition) -> torch.Tensor:
    """DDIM samples ``[n, …]`` in model space; ``condition`` holds rows of what the network is told."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**scheduler_config, clip_sample=False)
    scheduler.set_timesteps(SAMPLING_STEPS)
    x = torch.randn((n, *shape), generator=torch.Generator().manual_seed(seed)).to(device)
    done = []
    with torch.no_grad():
        for rows in torch.arange(n).split(64):
            part, told = x[rows], {name: value[rows.to(value.device)] for name, value in condition.items()}
            for t in scheduler.timesteps:
                part = scheduler.step(network(part, t, **told).sample, t, part).prev_sample
            done.append(part)
    return torch.cat(done)


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """[-1, 1] ``[N, C, H, W]`` to uint8 ``[N, H, W]`` or ``[N, H, W, 3]``."""
    pixels = ((x.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def add_schedule(parser: argparse.ArgumentParser, **defaults) -> None:
    """The options that all recipes share."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; started again, it goes on from there")
    parser.add_argument("--data", choices=["fashion-mnist", "emoji", "emoji-artist"], default="fashion-mnist")
    parser.add_argument("--members", type=int, default=512)
    parser.add_argument("--nonmembers", type=int, default=4000)
    for name, kind in (("steps", int), ("batch", int), ("learning_rate", float), ("check_every", int), ("seed", int), ("ema", float)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=defaults.get(name, getattr(Schedule(steps=8000), name)))
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default=defaults.get("mixed_precision", "bf16"))


def schedule_of(args: argparse.Namespace) -> Schedule:
    names = ("steps", "batch", "learning_rate", "check_every", "seed", "ema", "mixed_precision")
    return Schedule(**{name: getattr(args, name) for name in names})


def recipe_of(schedule: Schedule) -> dict[str, object]:
    """What all cards say of a schedule."""
    recipe = {"pictures per step": schedule.batch, "learning rate": schedule.learning_rate, "EMA": schedule.ema, "seed": schedule.seed}
    return recipe | {"precision": schedule.mixed_precision}


def data_of(args: argparse.Namespace, *, side: int = 28) -> TrainingSet:
    """The data that the options name: Fashion-MNIST at ``side``, or emoji at 32×32."""
    if args.data != "fashion-mnist":
        return emoji(args.members, args.nonmembers, artist=args.data == "emoji-artist", seed=args.seed)
    return fashion_mnist(args.members, args.nonmembers, side=side, seed=args.seed)


def quality_of(generated: np.ndarray, data: TrainingSet) -> dict[str, float]:
    """Fréchet distance of generated pictures to the non-members, and what as many real ones reach."""
    n = len(generated)
    real = {f"the same of {n} real pictures": floor(data.nonmembers, n)} if n < len(data.nonmembers) // 2 else {}
    return {
        f"Fréchet distance of {n} samples to the non-members (training/quality.py)": frechet_distance(generated, data.nonmembers)
    } | real


def main(arguments: list[str] | None = None) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_schedule(parser)
    parser.add_argument("--flips", action="store_true", help="mirror every training picture with probability one half")
    parser.add_argument("--side", type=int, choices=sorted(SIDES), default=28, help="of Fashion-MNIST's pictures (default: 28)")
    args = parser.parse_args(arguments)
    data, schedule = data_of(args, side=args.side), schedule_of(args)
    channels = 1 if data.members.ndim == 3 else 3
    torch.manual_seed(schedule.seed)
    network = UNet2DModel(sample_size=data.members.shape[1], in_channels=channels, out_channels=channels, **UNET)
    scheduler, pixels = DDPMScheduler(**SCHEDULER), model_space(data.members, channels)

    def loss(batch: Batch) -> torch.Tensor:
        x0 = pixels[batch.rows].to(batch.device)
        return noise_loss(network, scheduler, batch, mirrored(x0, batch, schedule.seed) if args.flips else x0)

    training = Training(args.out, schedule, {"unet": Learner(network, loss)}, len(pixels))

    def snapshot(step: int) -> dict:
        DDPMPipeline(network, scheduler).save_pretrained(args.out / f"step-{step:06d}", safe_serialization=True)
        return {}

    training.run(snapshot)
    # The weights without the moving average, for a comparison.
    DDPMPipeline(network, scheduler).save_pretrained(args.out / "raw", safe_serialization=True)
    with training.averaged():
        drawn = to_uint8(sample(network, SCHEDULER, pixels.shape[1:], SAMPLES, device=training.accelerator.device))
    recipe = recipe_of(schedule) | {"random flips": "yes" if args.flips else "no", "parameters": network.num_parameters()}
    flags = f"--data {args.data} --side {args.side} --members {args.members} --steps {args.steps}" + (" --flips" if args.flips else "")
    write_card(
        args.out / f"step-{training.step:06d}", data, title=f"DDPM on {len(data.members):,} pictures of {data.name}",
        tag="unconditional-image-generation", recipe=recipe, command=f"python -m training.train_ddpm --out {args.out} {flags}",
        log=args.out / "log.jsonl", samples=drawn, quality=quality_of(drawn, data),
    )  # fmt: skip


if __name__ == "__main__":
    main()
