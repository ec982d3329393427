"""Train a latent diffusion model on the latents of an autoencoder of `training.train_vae`.

python -m training.train_ldm --out runs/ldm-b1e-6 --vae runs/vae-b1e-6/vae --members 512
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mia_hub.system.streams import any_terminal
from training.data import model_space
from training.loop import Batch, Learner, Training
from training.recipe import data_of, parser_of, schedule_of, train_and_publish
from training.train_ddpm import SCHEDULER, noise_loss, sample, to_uint8
from training.train_vae import SIDE
from training.watching import MOST_WATCHED, add_stop_rule, calibration_pixels, stop_check, stop_settings

# 0.9 million parameters.
UNET = dict(
    block_out_channels=(48, 64),
    layers_per_block=1,
    norm_num_groups=16,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)


def encode_images(vae, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scaled means and standard deviations of q(z|x), ``[N, 4, 8, 8]`` each."""
    with torch.no_grad():
        posteriors = [vae.encode(part.to(vae.device)).latent_dist for part in pixels.split(100)]
    scale = vae.config.scaling_factor
    return tuple(torch.cat([getattr(posterior, name) for posterior in posteriors]).float() * scale for name in ("mean", "std"))


def decode_latents(vae, latents: torch.Tensor) -> torch.Tensor:
    """Return images ``[N, 3, 32, 32]`` in [-1, 1] from scaled latents."""
    with torch.no_grad():
        return torch.cat([vae.decode(part / vae.config.scaling_factor).sample for part in latents.split(100)])


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    from diffusers import AutoencoderKL, DDPMScheduler, LDMPipeline, UNet2DModel

    parser = parser_of("train_ldm", __doc__)
    parser.add_argument("--vae", type=Path, required=True, help="folder of the autoencoder")
    parser.add_argument(
        "--latents",
        choices=["mode", "sample"],
        default="sample",
        help="latents to train on: the mode, or a new draw at each step (default: sample)",
    )
    add_stop_rule(parser)
    args = parser.parse_args(arguments)
    data, schedule = data_of(args, side=SIDE), schedule_of(args)
    vae = AutoencoderKL.from_pretrained(args.vae, use_safetensors=True).eval()
    mean, std = encode_images(vae, model_space(data.members, 3))
    torch.manual_seed(schedule.seed)
    network = UNet2DModel(sample_size=mean.shape[-1], in_channels=mean.shape[1], out_channels=mean.shape[1], **UNET)
    scheduler = DDPMScheduler(**SCHEDULER, clip_sample=False)

    def loss(batch: Batch) -> torch.Tensor:
        z = mean[batch.rows].to(batch.device)
        if args.latents == "sample":
            z = z + std[batch.rows].to(batch.device) * batch.randn(*z.shape)
        return noise_loss(network, scheduler, batch, z)

    def draw(n: int) -> np.ndarray:
        latents = sample(network, SCHEDULER, mean.shape[1:], n, device=network.device)
        images = to_uint8(decode_latents(vae.to(network.device), latents))
        return images.mean(-1).round().astype(np.uint8) if data.members.ndim == 3 else images

    def calibration() -> tuple[torch.Tensor, torch.Tensor]:
        members, nonmembers = (encode_images(vae, part)[0] for part in calibration_pixels(data, 3, most=MOST_WATCHED))
        return members, nonmembers

    training = Training(args.out, schedule, {"unet": Learner(network, loss)}, len(mean))
    train_and_publish(
        parser, args, training, data,
        save=LDMPipeline(vae, network, scheduler).save_pretrained, draw=draw,
        check=stop_check(args.stop_at, calibration, training.accelerator.device),
        title=f"Latent diffusion on {len(data.members):,} images of {data.name}", tag="unconditional-image-generation",
        settings={"autoencoder": args.vae.as_posix(), "trained on": args.latents} | stop_settings(args.stop_at),
    )  # fmt: skip


if __name__ == "__main__":
    main()
