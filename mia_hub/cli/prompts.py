"""``mia-hub prompts``: which prompts has a text-to-image model memorised?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mia_hub.cli.options import Commands, add_query_options, add_quiet_option, model_from
from mia_hub.cli.output import output_folder, report_files
from mia_hub.errors import PromptError, integer_at_least
from mia_hub.system.files import write_output

DETECTOR = "guidance-norm"


def add_command(commands: Commands) -> None:
    """Add ``prompts`` to the commands of mia-hub."""
    question = "which prompts has a text-to-image model memorised?"
    parser = commands.add_parser("prompts", help=question, description=question[0].upper() + question[1:])
    parser.add_argument("--model", required=True, help="a folder or a Hub id of a text-to-image model, also 'base + lora'")
    parser.add_argument(
        "--prompts", required=True, metavar="FILE", help="the prompts, one per line in UTF-8; or a folder of images with captions"
    )
    parser.add_argument(
        "--unmemorised",
        metavar="FILE",
        help="prompts of the same kind that are certainly not memorised, such as captions that were held out: 99 or more, for p-values",
    )
    parser.add_argument("--memorised", metavar="FILE", help="prompts that are known to be memorised, to measure the detector")
    parser.add_argument(
        "--detector",
        nargs="+",
        default=[DETECTOR],
        metavar="NAME",
        help="guidance-norm, curvature or alignment, also with parameters as in curvature:form=exact,draws=8; choose before you see the "
        f"scores (default: {DETECTOR})",
    )
    parser.add_argument("--top", type=int, default=20, metavar="N", help="list at most N prompts (default: 20); --out has all")
    parser.add_argument("--out", metavar="FOLDER", help="write prompts.json, prompts.csv and a plot for each detector there")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    add_query_options(parser)
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the images in pixels (default: that of the model)")
    parser.add_argument("--offload", choices=["model", "sequential"], help="diffusers' offloading, for a model larger than the accelerator")
    add_quiet_option(parser)
    parser.set_defaults(run=run, latents=None)


def run(args: argparse.Namespace) -> int:
    """Print the prompts of the highest scores, and write all into the folder of ``--out``."""
    from mia_hub.prompts import get_detector
    from mia_hub.prompts.reading import read_prompts
    from mia_hub.prompts.report import reports_csv
    from mia_hub.prompts.scoring import score_prompts

    most = integer_at_least("--top", args.top, 1, PromptError)
    detectors = [get_detector(name) for name in args.detector]
    if len({detector.name for detector in detectors}) < len(detectors):
        raise PromptError("--detector names one detector twice; name each once.")
    prompts = read_prompts(args.prompts)
    known = {kind: read_prompts(path) if (path := getattr(args, kind)) else None for kind in ("unmemorised", "memorised")}
    out = Path(args.out) if args.out else None
    with output_folder(out):
        model = model_from(args)
        options: dict[str, Any] = known | {"batch_size": args.batch_size, "seed": args.seed, "progress": not args.quiet}
        reports = [score_prompts(prompts, model, detector=detector, **options) for detector in detectors]
    if out:
        files = {"prompts.json": json.dumps({"detectors": [report.to_dict() for report in reports]}, indent=2, ensure_ascii=False)}
        files |= {"prompts.csv": reports_csv(reports)} | {f"{report.name}.svg": report.plot_svg() for report in reports}
        for name, text in files.items():
            write_output(out / name, text)
        report_files(out, files)
    print("\n\n".join(report.to_text(most) for report in reports))
    return 0
