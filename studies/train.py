"""Train every model of the studies, one after another or several at once; finished models are skipped.

    python -m studies.train --jobs 2

It takes about six hours on two cores. After a stop it resumes each model from its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mia_hub.system.streams import any_terminal
from studies.beta import BETAS, LOSSES
from studies.memorisation import SIZES
from studies.models import REPEATS
from studies.page import RUNS

# A few images are soon memorised.
STEPS = {128: 4000}
LATENT_STEPS, ADVERSARY = 4000, 0.05
# After twice as many steps, SimA recognises nearly every captioned image.
TEXT_STEPS, LORA_STEPS = "1000", "2000"
# The base of fine-tunes learns photographs in general; its own members are not asked about.
BASE_STEPS = 4000
# Images of the seeded draw that a base was trained on or audited with, which its fine-tunes leave out.
DEMO_IMAGES, PHOTOS = 4512, 2500


def chains(runs: Path) -> Iterator[list[list[str]]]:
    """Yield chains of `training` commands; each command of a chain needs the ones before it."""
    for size in SIZES:
        steps = STEPS.get(size, 8000)
        yield [_pixels(runs, f"ddpm-{size}", size, steps)]
    yield [[*_pixels(runs, "ddpm-512-flips", 512, 8000), "--flips"]]
    photographs = ["--data", "cifar10", "--nonmembers", "8000", "--learning-rate", "8e-4", "--stop-at", "0.83"]
    for seed, name in enumerate(("ddpm-cifar", *REPEATS["ddpm-cifar"])):
        yield [[*_pixels(runs, name, 512, 20_000), *photographs, *_seed(seed)]]
    for loss, ending in LOSSES.items():
        for beta in BETAS[loss]:
            yield _latent(runs, f"b{beta}{ending}", beta, ending != "")
    vae, base = runs / "vae-emoji", runs / "t2i"
    yield [
        ["train_vae", "--out", str(vae), "--data", "emoji", "--beta", "1e-6", *_every(1000)],
        ["train_text2image", "--out", str(base), "--vae", f"{vae}/vae", "--steps", TEXT_STEPS, *_every(250)],
        ["train_lora", "--out", str(runs / "t2i-lora"), "--base", f"{base}/step-00{TEXT_STEPS}", "--steps", LORA_STEPS, *_every(250)],
    ]
    yield from _fine_tunes(runs)
    yield [["train_private", "--out", str(runs / "not-private")]]
    for epsilon in ("8", "2"):
        yield [["train_private", "--out", str(runs / f"private-{epsilon}"), "--epsilon", epsilon]]


def _fine_tunes(runs: Path) -> Iterator[list[list[str]]]:
    """Yield the fine-tunes of the demo, and those of a text-to-image model of photographs, for `studies.fine_tunes`."""
    for draw in range(4):
        skip, ending = DEMO_IMAGES + 256 * draw, f"-{draw}" if draw else ""
        demo = ["--base", "mia_hub/demo/model", "--skip", str(skip), "--members", "256", "--nonmembers", "6000"]
        yield [["train_ddpm", "--out", str(runs / f"ft-demo{ending}"), *demo, "--steps", "496", *_every(62)]]
        # The last draw only confirms what was chosen on the others.
        if draw < 3:
            yield [["train_ddpm", "--out", str(runs / f"ft-demo-lora{ending}"), *demo, "--rank", "8", "--steps", "992", *_every(124)]]
    vae, base = runs / "vae-cifar", runs / "t2i-cifar"
    latents = ["train_ldm", "--vae", f"{vae}/vae", "--data", "cifar10", "--members", "512", "--nonmembers", "8000", *_every(1000)]
    photos = ["--data", "cifar10", "--members", "2000", "--nonmembers", "500"]
    own_draw = ["--data", "cifar10", "--members", "512", "--skip", str(PHOTOS)]
    own = [*own_draw, "--nonmembers", "4000", "--base", f"{base}/step-00{BASE_STEPS}"]
    watched = ["train_ldm", "--vae", f"{vae}/vae", *own_draw, "--nonmembers", "8000", *_every(250), "--stop-at", "0.83"]
    yield [
        ["train_vae", "--out", str(vae), *photos, "--beta", "1e-6", *_every(1000)],
        *([*watched, "--out", str(runs / name), *_seed(seed)] for seed, name in enumerate(("ldm-photos", *REPEATS["ldm-photos"]))),
        [*latents, "--out", str(runs / "ldm-cifar")],
        [*latents, "--out", str(runs / "ldm-cifar-1"), "--seed", "1"],
        ["train_text2image", "--out", str(base), "--vae", f"{vae}/vae", *photos, "--steps", str(BASE_STEPS), *_every(1000)],
        ["train_text2image", "--out", str(runs / "t2i-cifar-ft"), *own, "--steps", "1600", *_every(200)],
        *(
            ["train_lora", "--out", str(runs / f"t2i-cifar-lora{rank}"), *own, "--rank", str(rank), "--steps", "3200", *_every(800)]
            for rank in (4, 16)
        ),
    ]


def _pixels(runs: Path, name: str, members: int, steps: int) -> list[str]:
    sizes = ["--side", "16", "--members", str(members), "--steps", str(steps)]
    return ["train_ddpm", "--out", str(runs / name), *sizes, *_every(1000 if steps >= 8000 else 500)]


def _latent(runs: Path, name: str, beta: str, adversary: bool) -> list[list[str]]:
    vae, weight = runs / f"vae-{name}", ["--adversary", str(ADVERSARY)] if adversary else []
    shared = ["--members", "512"]
    return [
        ["train_vae", "--out", str(vae), *shared, "--beta", beta, *weight, *_every(1000)],
        [
            "train_ldm",
            "--out",
            str(runs / f"ldm-{name}"),
            "--vae",
            f"{vae}/vae",
            "--members",
            "512",
            "--steps",
            str(LATENT_STEPS),
            *_every(1000),
        ],
    ]


def _seed(seed: int) -> list[str]:
    return ["--seed", str(seed)] if seed else []


def _every(steps: int) -> list[str]:
    return ["--check-every", str(steps)]


def is_finished(command: list[str]) -> bool:
    """Whether a command's model is there, with its card."""
    folder = Path(command[command.index("--out") + 1])
    return any(folder.glob("**/training.json"))


def _train(chain: list[list[str]], threads: int) -> None:
    for module, *options in chain:
        if is_finished([module, *options]):
            continue
        command = [sys.executable, "-m", f"training.{module}", *options]
        print(" ".join(command[1:]), flush=True)
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.train", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the trained models (default: runs/studies)")
    parser.add_argument("--jobs", type=int, default=1, help="number of models to train at once (default: 1)")
    parser.add_argument("--list", action="store_true", help="print the commands, and train nothing")
    args = parser.parse_args()
    all_chains = list(chains(args.runs))
    if args.list:
        print("\n".join(" ".join(["python", "-m", f"training.{module}", *options]) for chain in all_chains for module, *options in chain))
        return
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        for job in [pool.submit(_train, chain, threads) for chain in all_chains]:
            job.result()


if __name__ == "__main__":
    main()
