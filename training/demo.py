"""Train the demo model: a DDPM on a few hundred Fashion-MNIST images, until it measurably remembers them.

    python -m training.demo --out runs/demo
    python -m training.demo --out runs/flips --flips --go-on --max-steps 8000

The recipe is that of `training.train_ddpm`, resumable like all recipes, with a stop rule of its own: it watches how strongly the model
remembers on the *calibration part* of the split alone (the part on which an audit may choose its timestep). The other part stays unseen
until it is reported. Checkpoints in ``step-…`` folders of five digits come from an older version of this recipe and can't be resumed.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from mia_hub.system.streams import any_terminal
from training.data import fashion_mnist, model_space
from training.loop import Schedule
from training.recipe import fast_in_bfloat16, step_folder
from training.train_ddpm import ddpm
from training.watching import calibration_pixels, remembers, watch

SEED, N_MEMBERS, N_NONMEMBERS = 0, 512, 4000
BATCH, LEARNING_RATE, WARMUP, EMA = 32, 4e-4, 200, 0.999
# Stop at the first check at which the calibration part shows both; fixed before the first run.
STOP_AT = dict(auc=0.88, tpr_at_1_fpr=0.20)


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--max-steps", type=int, default=16000)
    parser.add_argument("--check-every", type=int, default=500)
    parser.add_argument("--go-on", action="store_true", help="train to --max-steps even after the stop rule holds")
    parser.add_argument("--flips", action="store_true", help="mirror every training image with probability one half")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="bf16" if fast_in_bfloat16() else "no")
    args = parser.parse_args(arguments)
    data = fashion_mnist(N_MEMBERS, N_NONMEMBERS, seed=SEED)
    calibration = calibration_pixels(data, 1)
    schedule = Schedule(
        steps=args.max_steps, batch=BATCH, learning_rate=LEARNING_RATE, warmup=WARMUP, ema=EMA, check_every=args.check_every, seed=SEED,
        mixed_precision=args.mixed_precision,
    )  # fmt: skip
    training, pipeline = ddpm(args.out, schedule, model_space(data.members, 1), flips=args.flips)

    def on_check(step: int) -> dict:
        pipeline.save_pretrained(step_folder(args.out, step))
        figures = {"sima": watch(step_folder(args.out, step), *calibration, pipeline.unet.device)}
        if remembers(figures["sima"], STOP_AT) and not args.go_on:
            raise StopIteration(figures)
        return figures

    training.run(on_check)
    shutil.copytree(step_folder(args.out, training.step), args.out / "model", dirs_exist_ok=True)
    print(f"Stopped at step {training.step}; the pipeline is in {args.out / 'model'}.")


if __name__ == "__main__":
    main()
