"""Train a small DDPM, and watch at each checkpoint how well an attack tells its training images from held-out ones.

    python examples/monitor_training.py --split demo --members 64 --steps 2000 --every 200 --out run

`--split` is a folder with ``member/`` and ``nonmember/``, a data set with such splits, or "demo". The model is trained on its members;
as many non-members are held out. ``run/`` gets a line per checkpoint in ``monitor.jsonl``, the curve in ``monitor.svg``, and the model
at the end, which is earlier where a figure is surely above a limit of `--stop-above`. The lines with `monitor` are all that a script of
your own needs.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import mia_hub


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="demo")
    parser.add_argument("--members", type=int, default=64, help="number of training images, and of held-out ones")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=200, help="steps from one checkpoint to the next")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=32, help="channels of the network's first block")
    parser.add_argument("--stop-above", nargs="+", default=[], metavar="FIGURE=LIMIT", help="such as auc=.7")
    parser.add_argument("--out", default="run")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)

    split = mia_hub.load_split(args.split, limit=args.members)
    first = split.members[0]
    size, channels = first.height, first.pixels.shape[2]
    pixels = np.stack([image.resized(size, size, channels) for image in split.members]).transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(args.device) * 2 - 1

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(args.width, 2 * args.width),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    ).to(args.device)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)

    monitor = mia_hub.TrainingMonitor(split, log=Path(args.out) / "monitor.jsonl", stop_above=args.stop_above)
    monitor(0, unet, scheduler)  # images or a model that don't fit are refused here, before training
    for step in range(1, args.steps + 1):
        x = images[torch.randint(len(images), (args.batch_size,), device=args.device)]
        noise, t = torch.randn_like(x), torch.randint(1000, (len(x),), device=args.device)
        loss = torch.nn.functional.mse_loss(unet(scheduler.add_noise(x, noise, t), t).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % args.every == 0:
            seen = monitor(step, unet, scheduler)
            print(f"step {step}: loss {loss.item():.4f}, AUC {seen.auc}, attack success rate {seen.asr.percent()}", flush=True)
            if monitor.should_stop:
                print("Stopped.")
                break
    (Path(args.out) / "monitor.svg").write_text(monitor.plot_svg(), encoding="utf-8")
    DDPMPipeline(unet, scheduler).save_pretrained(Path(args.out) / "model")
    return monitor


if __name__ == "__main__":
    main()
