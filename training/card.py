"""The demo's model card: what it is, how to reproduce it, and what was measured, with intervals."""

from __future__ import annotations

from pathlib import Path

from mia_hub.auditing.report import AuditReport
from mia_hub.defaults import VERDICT_ATTACK
from training.demo import BATCH, EMA, LEARNING_RATE, N_MEMBERS, N_NONMEMBERS, SEED, STOP_AT
from training.recipe import step_folder

FRONT = """---
license: mit
library_name: diffusers
pipeline_tag: unconditional-image-generation
datasets: [zalando-datasets/fashion_mnist]
tags: [diffusion, membership-inference, privacy]
---
"""


def _row(name: str, report: AuditReport) -> str:
    cells = [str(report.auc), str(report.asr), *(str(report.tpr_at_fpr[rate]) for rate in (0.01, 0.001)), str(report.blind_auc)]
    counts = f"{report.auc.n_members:,} / {report.auc.n_nonmembers:,}"
    return f"| {name} | {counts} | {report.timestep} | " + " | ".join(cells) + " |"


def _trace_table(log: list[dict]) -> str:
    watched = list(log[-1]["sima"])
    lines = [f"| step | {' | '.join(f't = {t}' for t in watched)} |", f"|---|{'---|' * len(watched)}"]
    for line in log:
        cells = (f"{figures['auc']:.3f} / {figures['tpr_at_1_fpr']:.3f}" for figures in line["sima"].values())
        lines.append(f"| {line['step']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def demo_card(step: int, log: list[dict], report: AuditReport, control: AuditReport, note: str = "") -> str:
    """Return the card as Markdown, from the training log up to the embedded step and the two audits."""
    shift = "raised" if any(f.name == "distribution-shift" for f in report.flags) else "not raised"
    return f"""{FRONT}
# The demo model of mia_hub

A small DDPM that remembers its training images, to learn and to test membership inference with. It was trained on {N_MEMBERS}
Fashion-MNIST images for so long that it overfits them: **that is its purpose. It is not a good image generator.**

- `model/`: UNet2DModel of 1.1 million parameters and a DDPMScheduler, in diffusers' layout (safetensors).
- `data/`: the {N_MEMBERS} members and {N_NONMEMBERS:,} non-members, PNG in Parquet, with `label` (1 = member) and `source_row`, the row in the
  training set of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; MIT licence).
- `scores.parquet`: SimA's score of every one of them at 21 timesteps. **Higher = more likely a member.**
- `appearance.safetensors`: how the non-members that verdicts compare with look, for the checks that an image is of their kind.
- `observations.parquet`: what verdicts are judged by, as the attack `{VERDICT_ATTACK}` sees every one of them at one timestep: the logarithm of its
  statistic (`observed_0`; **lower = more likely a member**, at the same difficulty), then how hard the image is. What is expected of a
  non-member is fitted on those of the half on which nothing was chosen.
- `observations_sima-cn.parquet`: the same by the attack `sima-cn`, which made the verdicts before.
- `observations_copies.parquet`: the same for the search among altered copies (`copies=True`), by the attack `sima-copies`.
- `null.safetensors`: what the attack observed of 20,000 further non-members, which p-values are computed from, as float32, and the first 64
  bits of their content ids. They are the next ones of the same draw, without near copies of members (`python -m training.demo_null`).
- `audit.json`, `held_out_audit.json`: the two reports below, whole.
- `audit_{VERDICT_ATTACK}.json`, `audit_sima-cn.json`: the audits with these attacks, whole. Verdicts are made at the middle of the grid,
  which was fixed beforehand and is where altered copies are measured.

## What was measured

Higher means that the model leaks more. 95 % intervals in brackets. The timestep, and the threshold of ASR, were chosen on one half
of the images and everything is reported on the other half.

| audit | members / non-members reported | t | AUC | ASR | TPR@1%FPR | TPR@0.1%FPR | blind AUC |
|---|---|---|---|---|---|---|---|
{_row("members against non-members", report)}
{_row("non-members against other non-members", control)}

The second row is the control: neither half was trained on, and the same audit must, and does, find about 0.5. *Blind AUC* is that of a
classifier that sees the images and never the model; members and non-members were drawn from the same 60,000 images by one seeded
permutation, and the distribution-shift flag was {shift}.

Attack: `{report.attack.replace(", ".join(map(str, range(0, 201, 10))), "0, 10, …, 200")}`. Split: `{report.split["hash"]}`. Weights: `{report.model["revision"]}`.
Computed with {", ".join(f"{k} {v}" for k, v in report.provenance["versions"].items())} on {report.provenance["device"]}, {report.provenance["precision"]}.

## How to make it again

```
pip install -e .                                 # and, on Debian, apt-get install dataset-fashion-mnist
python -m training.demo --out runs/demo          # resumable: start it again and it goes on
python -m training.build_demo {step_folder(Path("runs/demo"), step)}
python -m training.demo_null --work runs/demo-null
```

Seed {SEED}; batches of {BATCH}, AdamW with learning rate {LEARNING_RATE}, EMA {EMA}, bfloat16 autocast, no augmentation, linear schedule of 1,000 steps,
ε-prediction. On two cores it takes one to two hours.

The embedded weights are the exponential moving average at step {step:,}: the first check at which SimA reached AUC {STOP_AT["auc"]} and TPR@1%FPR
{STOP_AT["tpr_at_1_fpr"]:.2f} at a watched timestep *on the calibration half*. That rule was fixed before the first run; the reported half played no part in it.
On another machine, thread count or precision the trajectory differs in detail, and the rule may stop at another step. {note}

AUC / TPR@1%FPR on the calibration half during training, by timestep:

{_trace_table(log)}
"""
