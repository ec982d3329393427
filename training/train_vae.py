"""Train a β-VAE whose latents a diffusion model can learn, with or without an adversary.

    python -m training.train_vae --out runs/vae-b1e-6 --beta 1e-6 --members 512
    python -m training.train_vae --out runs/vae-b1e-6-adv --beta 1e-6 --adversary 0.1 --members 512

Loss: mean absolute error of pixels + β·KL(q(z|x) ‖ N(0, 1)), KL summed over latents and divided by the number of pixels; with an adversary,
- weight·D(x̂), of a small convolutional network over patches that is trained by hinge loss (arXiv 2012.09841). No pretrained network
judges the images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mia_hub.system.streams import any_terminal
from training.data import model_space
from training.loop import Batch, Learner, Schedule, Training
from training.recipe import data_of, parser_of, publish, schedule_of
from training.train_ddpm import to_uint8

# 32×32 to 4×8×8, as in the SimA authors' study.
VAE = dict(
    block_out_channels=(16, 32, 64),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=8,
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    mid_block_add_attention=False,
)
SIDE = 32


class Patches(nn.Sequential):
    """Discriminator of patches: ``[N, C, 32, 32]`` to ``[N, 1, 6, 6]``, higher for real ones."""

    def __init__(self, channels: int, width: int = 32):
        layers = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(2 * width, 1, 3, 1, 0))


def reconstruct(vae, x0: torch.Tensor, batch: Batch):
    """Return ``(x̂, q(z|x))`` for one seeded draw of z."""
    posterior = vae.encode(x0).latent_dist
    return vae.decode(posterior.mean + posterior.std * batch.randn(*posterior.mean.shape)).sample, posterior


def kl_per_pixel(posterior, pixels: int) -> torch.Tensor:
    """Return the KL divergence to the standard normal, summed over latents, per pixel."""
    return 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).flatten(1).sum(1).mean() / pixels


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("train_vae", __doc__, steps=4000)
    parser.add_argument("--beta", type=float, default=1e-6, help="weight of the KL term (default: 1e-6)")
    parser.add_argument("--adversary", type=float, default=0.0, help="weight of the adversarial loss (default: 0, none)")
    args = parser.parse_args(arguments)
    data, schedule = data_of(args, side=SIDE), schedule_of(args)
    # Autoencoders on the Hub have three channels, and mia_hub gives them three.
    pixels = model_space(data.members, 3)
    vae = train(args.out, schedule, pixels, beta=args.beta, adversary=args.adversary)
    vae.save_pretrained(args.out / "vae", safe_serialization=True)
    held_out = model_space(data.nonmembers[:500], 3)
    with torch.no_grad():
        reconstructions = torch.cat(
            [vae.decode(vae.encode(part.to(vae.device)).latent_dist.mean).sample.cpu() for part in held_out.split(100)]
        )
    error = float((reconstructions - held_out).square().mean() / 4)
    samples = np.concatenate([np.concatenate(pair)[None] for pair in zip(to_uint8(held_out[:16]), to_uint8(reconstructions[:16]))])
    publish(
        parser, args, args.out / "vae", data, title=f"β-VAE (β = {args.beta:g}) on {len(data.members):,} images of {data.name}",
        tag="image-to-image", settings={"β": args.beta, "adversary": args.adversary, "latents": "4×8×8"}, samples=samples,
        quality={f"PSNR of {len(held_out)} non-members, dB": float(-10 * np.log10(error))},
    )  # fmt: skip


def train(out: Path, schedule: Schedule, pixels: torch.Tensor, *, beta: float, adversary: float):
    """Train on pixels ``[N, 3, 32, 32]`` in [-1, 1] and return the autoencoder with its averaged weights."""
    from diffusers import AutoencoderKL

    torch.manual_seed(schedule.seed)
    vae = AutoencoderKL(in_channels=3, out_channels=3, sample_size=pixels.shape[-1], **VAE)
    judge = Patches(3)

    def generator_loss(batch: Batch) -> torch.Tensor:
        x0 = pixels[batch.rows].to(batch.device)
        reconstruction, posterior = reconstruct(vae, x0, batch)
        loss = (reconstruction.float() - x0).abs().mean() + beta * kl_per_pixel(posterior, x0[0, 0].numel())
        return loss - adversary * judge(reconstruction).float().mean() if adversary else loss

    def judge_loss(batch: Batch) -> torch.Tensor:
        x0 = pixels[batch.rows].to(batch.device)
        with torch.no_grad():
            reconstruction, _ = reconstruct(vae, x0, batch)
        return (1 - judge(x0).float()).relu().mean() + (1 + judge(reconstruction.detach()).float()).relu().mean()

    learners = {"vae": Learner(vae, generator_loss)} | ({"judge": Learner(judge, judge_loss)} if adversary else {})
    training = Training(out, schedule, learners, len(pixels))
    training.run()
    with training.averaged():
        averaged = AutoencoderKL.from_config(vae.config)
        averaged.load_state_dict(vae.state_dict())
    # Latents are multiplied by this factor, so that their standard deviation is about one.
    with torch.no_grad():
        means = torch.cat([averaged.eval().encode(part).latent_dist.mean for part in pixels[:2000].split(100)])
    averaged.register_to_config(scaling_factor=float(1 / means.std()))
    return averaged.to(training.accelerator.device)


if __name__ == "__main__":
    main()
