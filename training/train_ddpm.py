"""Train a DDPM on pixels, with or without random flips, and save snapshots along the way.

python -m training.train_ddpm --out runs/ddpm-512 --members 512
python -m training.train_ddpm --out runs/ddpm-512-flips --members 512 --flips
python -m training.train_ddpm --out runs/fine-tune --members 256 --base mia_hub/demo/model --skip 4512
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mia_hub.system.streams import any_terminal
from training.data import SIDES, SIDES_OF, model_space
from training.loop import Batch, Learner, Schedule, Training
from training.lora import add_lora, merged
from training.recipe import data_of, not_negative, parser_of, schedule_of, train_and_publish
from training.watching import MOST_WATCHED, add_stop_rule, calibration_pixels, stop_check, stop_settings


def _levels(channels: str) -> tuple[int, ...]:
    return tuple(map(int, channels.split(",")))


CHANNELS = "32,64,64"  # 1.1 million parameters
UNET = dict(
    block_out_channels=_levels(CHANNELS),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
)
SCHEDULER = dict(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
SAMPLING_STEPS = 50


def noise_loss(network, scheduler, batch: Batch, x0: torch.Tensor, **condition) -> torch.Tensor:
    """‖ε - ε(x_t, t)‖², a mean over everything (arXiv 2006.11239, eq. 14)."""
    noise, t = batch.randn(*x0.shape), batch.timesteps(scheduler.config.num_train_timesteps)
    return torch.nn.functional.mse_loss(network(scheduler.add_noise(x0, noise, t), t, **condition).sample.float(), noise)


def mirrored(x0: torch.Tensor, batch: Batch, seed: int) -> torch.Tensor:
    """Mirror each image with probability one half; the draw is apart from the noise, which stays that of the recipe without flips."""
    flips = torch.from_numpy(np.random.default_rng((seed, batch.step, 1)).random(len(x0)) < 0.5).to(x0.device)
    return torch.where(flips[:, None, None, None], x0.flip(-1), x0)


def sample(network, scheduler_config: dict, shape: tuple[int, ...], n: int, *, seed: int = 0, device="cpu", **condition) -> torch.Tensor:
    """Return DDIM samples ``[n, …]`` in model space; each value of ``condition`` has one row per sample."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**scheduler_config, clip_sample=False)
    scheduler.set_timesteps(SAMPLING_STEPS)
    x = torch.randn((n, *shape), generator=torch.Generator().manual_seed(seed)).to(device)
    samples = []
    with torch.no_grad():
        for rows in torch.arange(n).split(64):
            part, conditions = x[rows], {name: value[rows.to(value.device)] for name, value in condition.items()}
            for t in scheduler.timesteps:
                part = scheduler.step(network(part, t, **conditions).sample, t, part).prev_sample
            samples.append(part)
    return torch.cat(samples)


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """Convert ``[N, C, H, W]`` in [-1, 1] to uint8 ``[N, H, W]`` or ``[N, H, W, 3]``."""
    pixels = ((x.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def channels_of(text: str) -> str:
    """Return the channels of the network's three levels as they are given, for argparse: multiples of 32, such as "32,64,128"."""
    try:
        levels = _levels(text)
    except ValueError:
        levels = ()
    if len(levels) != 3 or any(level < 32 or level % 32 for level in levels):
        raise argparse.ArgumentTypeError(f"three multiples of 32, such as {CHANNELS}, are needed; got {text}.")
    return text


def ddpm(
    out: Path, schedule: Schedule, pixels: torch.Tensor, *, flips: bool, channels: str = CHANNELS, base: Path | None = None, rank: int = 0
):
    """Return ``(Training, DDPMPipeline)`` of one network, to be trained in a folder on pixels ``[N, C, H, W]`` in [-1, 1].

    Args:
        flips: mirror every training image with probability one half.
        channels: of a new network's three levels.
        base: folder of a DDPM whose weights the training begins with; None for random ones.
        rank: of a LoRA, which is trained in place of the weights; 0 for none.
    """
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(schedule.seed)
    _, colours, _, side = pixels.shape
    if base is None:
        own = UNET | {"block_out_channels": _levels(channels)}
        network = UNet2DModel(sample_size=side, in_channels=colours, out_channels=colours, **own)
    else:
        network = UNet2DModel.from_pretrained(base, subfolder="unet", use_safetensors=True)
    if rank:
        add_lora(network, rank)
    scheduler = DDPMScheduler(**SCHEDULER)

    def loss(batch: Batch) -> torch.Tensor:
        x0 = pixels[batch.rows].to(batch.device)
        return noise_loss(network, scheduler, batch, mirrored(x0, batch, schedule.seed) if flips else x0)

    return Training(out, schedule, {"unet": Learner(network, loss)}, len(pixels)), DDPMPipeline(network, scheduler)


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    from diffusers import DDPMPipeline

    parser = parser_of("train_ddpm", __doc__)
    parser.add_argument("--flips", action="store_true", help="mirror every training image with probability one half")
    parser.add_argument(
        "--side",
        type=int,
        choices=sorted(SIDES),
        help="of the images in pixels (default: 28, and 32 for emoji and for CIFAR-10, which may have 16)",
    )
    parser.add_argument(
        "--channels", type=channels_of, default=CHANNELS, help=f"channels of a new network's three levels (default: {CHANNELS})"
    )
    parser.add_argument("--base", type=Path, help="fine-tune this DDPM; with --skip, on images that it never saw")
    parser.add_argument(
        "--rank", type=not_negative, default=0, help="with --base: train a LoRA of this rank, and add it to the saved weights"
    )
    add_stop_rule(parser)
    args = parser.parse_args(arguments)
    if args.rank and args.base is None:
        parser.error("--rank needs --base: a LoRA is an update of a trained model.")
    if args.base is not None and args.channels != CHANNELS:
        parser.error("--channels is for a new network; the one of --base has its own.")
    if args.side is not None and args.side not in SIDES_OF[args.data]:
        parser.error(f"--side of {args.data} must be one of {', '.join(map(str, SIDES_OF[args.data]))}.")
    data = data_of(args, side=args.side)
    colours = 1 if data.members.ndim == 3 else 3
    pixels = model_space(data.members, colours)
    training, pipeline = ddpm(args.out, schedule_of(args), pixels, flips=args.flips, channels=args.channels, base=args.base, rank=args.rank)

    def save(folder: Path) -> None:
        DDPMPipeline(merged(pipeline.unet), pipeline.scheduler).save_pretrained(folder)

    check = stop_check(args.stop_at, lambda: calibration_pixels(data, colours, most=MOST_WATCHED), pipeline.unet.device)
    settings = {"fine-tuned from": args.base.as_posix()} if args.base else {}
    settings |= {"LoRA of rank": args.rank} if args.rank else {}
    settings |= stop_settings(args.stop_at)
    train_and_publish(
        parser, args, training, data,
        save=save, check=check,
        draw=lambda n: to_uint8(sample(pipeline.unet, SCHEDULER, pixels.shape[1:], n, device=pipeline.unet.device)),
        title=f"DDPM on {len(data.members):,} images of {data.name}", tag="unconditional-image-generation",
        settings={"random flips": "yes" if args.flips else "no", "parameters": merged(pipeline.unet).num_parameters()} | settings,
    )  # fmt: skip
    # The weights without the moving average, for a comparison.
    save(args.out / "raw")


if __name__ == "__main__":
    main()
