"""Trains the demo model: a DDPM on a few hundred Fashion-MNIST images, until it can be seen to remember them.

    python -m training.demo --out runs/demo
    python -m training.demo --out runs/flips --flips --go-on --max-steps 8000

Every batch and every noise draw is a function of (seed, step), so a run that was stopped goes on from its last
checkpoint as if it had not been. How strongly the model remembers is watched on the *calibration part* of the
split alone (the part on which an audit may choose its timestep); the other part stays unseen until it is reported.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from mia_hub.atomic import replacing
from mia_hub.images import content_id
from mia_hub.splits import calibration_mask
from training.fashion_mnist import draw, load_train_images

SEED, N_MEMBERS, N_NONMEMBERS = 0, 512, 4000
BATCH, LEARNING_RATE, WARMUP, EMA = 32, 4e-4, 200, 0.999
UNET = dict(
    sample_size=28,
    in_channels=1,
    out_channels=1,
    block_out_channels=(32, 64, 64),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
)
SCHEDULER = dict(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
WATCHED_TIMESTEPS = (60, 80, 100, 120)
# Stop at the first check where the calibration part shows both; fixed before the first run.
ENOUGH = dict(auc=0.88, tpr_at_1_fpr=0.20)


def to_model_space(images: np.ndarray) -> torch.Tensor:
    """uint8 ``[N, 28, 28]`` to float32 ``[N, 1, 28, 28]`` in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None]


def mirrored_at_random(x0: torch.Tensor, step: int) -> torch.Tensor:
    """Every picture, or its mirror image, with equal chances; drawn apart from the noise, which stays that of the plain recipe."""
    mirrored = torch.from_numpy(np.random.default_rng((SEED, step, 1)).random(len(x0)) < 0.5)
    return torch.where(mirrored[:, None, None, None], x0.flip(-1), x0)


def watch(model: UNet2DModel, members: torch.Tensor, nonmembers: torch.Tensor, device: torch.device) -> dict:
    """SimA's AUC and TPR@1%FPR per watched timestep, members positive (a plain re-statement, to watch training by)."""
    result = {}
    with torch.no_grad():
        for t in WATCHED_TIMESTEPS:
            norms = []
            for x in (members, nonmembers):
                parts = [model(chunk.to(device), t).sample.flatten(1).norm(p=4, dim=1).cpu() for chunk in x.split(128)]
                norms.append(torch.cat(parts).double().numpy())
            member, nonmember = -norms[0], -norms[1]
            auc = (np.searchsorted(np.sort(nonmember), member).mean() / len(nonmember)).item()
            threshold = np.sort(nonmember)[::-1][math.floor(0.01 * len(nonmember))]
            result[t] = dict(auc=round(auc, 4), tpr_at_1_fpr=round(float((member > threshold).mean()), 4))
    return result


def save_checkpoint(path: Path, step: int, model, ema: dict, optimizer) -> None:
    tensors = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {
            f"model.{name}": parameter.detach(),
            f"ema.{name}": ema[name],
            f"exp_avg.{name}": state["exp_avg"],
            f"exp_avg_sq.{name}": state["exp_avg_sq"],
        }
    with replacing(path) as temporary:
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary, metadata={"step": str(step)})


def load_checkpoint(path: Path, model, ema: dict, optimizer) -> int:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            ema[name].copy_(tensors[f"ema.{name}"])
            optimizer.state[parameter] = dict(
                step=torch.tensor(float(step)),
                exp_avg=tensors[f"exp_avg.{name}"].to(parameter.device),
                exp_avg_sq=tensors[f"exp_avg_sq.{name}"].to(parameter.device),
            )
    return step


def export(checkpoint: Path, folder: Path) -> None:
    """A ``step-…`` folder as a pipeline that `mia_hub.load_model` and diffusers open."""
    unet = UNet2DModel.from_pretrained(checkpoint, use_safetensors=True)
    DDPMPipeline(unet, DDPMScheduler(**SCHEDULER)).save_pretrained(folder, safe_serialization=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--max-steps", type=int, default=16000)
    parser.add_argument("--check-every", type=int, default=500)
    parser.add_argument("--go-on", action="store_true", help="train to --max-steps even when enough is remembered")
    parser.add_argument("--flips", action="store_true", help="mirror every training picture with probability one half")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="bf16")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    images = load_train_images()
    members, nonmembers = (images[rows] for rows in draw(images, SEED, N_MEMBERS, N_NONMEMBERS))
    calibration = [to_model_space(part[calibration_mask([content_id(image) for image in part])]) for part in (members, nonmembers)]
    data = to_model_space(members)

    accelerator = Accelerator(mixed_precision=args.mixed_precision, cpu=not torch.cuda.is_available())
    torch.manual_seed(SEED)
    model = UNet2DModel(**UNET).to(accelerator.device)
    ema = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    averaged = UNet2DModel(**UNET).to(accelerator.device).eval()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    scheduler = DDPMScheduler(**SCHEDULER)
    checkpoint = args.out / "checkpoint.safetensors"
    step = load_checkpoint(checkpoint, model, ema, optimizer) if checkpoint.exists() else 0
    prepared = accelerator.prepare(model)
    per_epoch = len(data) // BATCH
    started, first = time.time(), step

    while step < args.max_steps:
        epoch, position = divmod(step, per_epoch)
        batch = np.random.default_rng((SEED, epoch)).permutation(len(data))[position * BATCH : (position + 1) * BATCH]
        generator = torch.Generator().manual_seed(SEED * 2**32 + step)
        x0 = mirrored_at_random(data[batch], step) if args.flips else data[batch]
        noise = torch.randn(x0.shape, generator=generator)
        t = torch.randint(0, scheduler.config.num_train_timesteps, (BATCH,), generator=generator)
        x_t, t, noise = send_to_device((scheduler.add_noise(x0, noise, t), t, noise), accelerator.device)

        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / WARMUP)
        with accelerator.autocast():
            loss = torch.nn.functional.mse_loss(prepared(x_t, t).sample.float(), noise)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                ema[name].lerp_(parameter, 1 - decay)

        if step % args.check_every == 0 or step == args.max_steps:
            averaged.load_state_dict(ema)
            seen = watch(averaged, *calibration, accelerator.device)
            line = dict(step=step, loss=round(loss.item(), 4), seconds=round(time.time() - started), since=first, sima=seen)
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            save_checkpoint(checkpoint, step, model, ema, optimizer)
            averaged.save_pretrained(args.out / f"step-{step:05d}", safe_serialization=True)
            enough = any(all(figures[name] >= ENOUGH[name] for name in ENOUGH) for figures in seen.values())
            if enough and not args.go_on:
                break
    export(args.out / f"step-{step:05d}", args.out / "model")
    print(f"Stopped at step {step}; {args.out / 'model'} is it as a pipeline.")


if __name__ == "__main__":
    main()
