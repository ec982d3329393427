"""What differs from the authors' code: the table in docs/attacks.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mia_hub.rendering.markdown import markdown_table
from studies.agreement import CASES


@dataclass(frozen=True)
class Difference:
    """A row of the table.

    Attributes:
        attacks: names, separated by blanks.
        ours: what we do by default.
        theirs: what the authors' public code does.
        spelled: how to get it, as the command line spells it; separated by blanks.
        compared: attacks of the cases in `studies.agreement` that were compared.
        missing: what was not compared, as a clause; empty if all was.
    """

    attacks: str
    ours: str
    theirs: str
    spelled: str
    compared: tuple[str, ...] = ()
    missing: str = ""


def _cases(*names: str) -> tuple[str, ...]:
    """The attacks of the cases of some names that were compared in the authors' variant, or that need none."""
    cases = [case.attack for case in CASES if case.attack.split(":")[0] in names and "filtered" not in case.attack]
    return tuple(case for case in cases if not case.startswith("forensics") or case.endswith("authors"))


RESNET = (
    "ResNet-18 on the maps as they are, fitted to the labels 1 and 0 by least squares: SGD, rate 0.001, momentum 0.9, weight decay 0.0005, "
    "15 epochs, batches of 128, on the first 20 % of each kind"
)
DIFFERENCES = (
    Difference(
        "sima",
        "‖ε‖₄ of the clean image",
        "the sum of ε⁴ without the root, which ranks alike",
        "sima",
        _cases("sima"),
        "compared at one noised input",
    ),
    Difference(
        "sima-mc",
        "the norm of the mean of ε over the draws (described by others only)",
        "retrievable code: the norm of the mean of ε - e",
        "sima-mc:form=error-mean",
        _cases("sima-mc"),
        "compared at one draw without subtraction; the mean of errors is not",
    ),
    Difference("loss", "‖e - ε‖₂²", "SimA's repository: the same", "loss", ("loss:timesteps=10,100",)),
    Difference(
        "loss",
        "‖e - ε‖₂², one draw, 21 timesteps",
        "CDI: ‖e - ε‖₂, five draws, t = 100",
        "loss:form=norm,draws=5,timesteps=100",
        ("loss:timesteps=10,100,form=norm",),
        "against the root of SimA's loss; CDI's own code was not run",
    ),
    Difference("secmi", "each point of the chain once", "each twice, in coefficients of float32", "secmi:timesteps=90", _cases("secmi")),
    Difference(
        "secmi-nns",
        "a ResNet of 8 layers on standardised maps, fitted by cross-entropy and Adam on the calibration part; smooth, so that the batch "
        "size of the maps hardly matters",
        RESNET,
        "secmi-nns:variant=authors",
        _cases("secmi-nns"),
        "of the maps; the classifier is not compared. It is fitted on our calibration part",
    ),
    Difference(
        "pia pian", "the norm, with its root", "the sum of fourth powers, which ranks alike", "pia pian", (), "no values are stored"
    ),
    Difference(
        "pfami",
        "sides of crops rounded to whole pixels; one draw of e for an image and its crops; the mean over ten crops",
        'sides truncated; a draw for each; the attack "stat" reads crop 5, counted from 0',
        "pfami:variant=authors,form=stat",
        _cases("pfami"),
        "with form=difference, as in SimA's repository, and shared draws; form=stat is not",
    ),
    Difference(
        "clid",
        "words left out, their number rounded; importance from the words; a on a grid of 0.01, the middle one of those that tie; the "
        "latent's mode",
        "words replaced by end-of-text tokens, their number rounded up, ties included; importance from a file made beforehand; a on a grid "
        "of 0.1, the smallest of those that tie; a drawn latent",
        "clid:variant=authors",
        _cases("clid"),
        "of the losses; the variant has the number of words and the grid, and importance=… takes other importances",
    ),
    Difference(
        "mofit",
        "a draw of e for each image; the embedding starts from the caption that is given, or the empty one",
        "one draw for all images; the embedding starts from a captioning model's caption, whose loss is then mixed in, scaled by median "
        "and IQR, with a weight chosen on the test images",
        "mofit",
        (),
        "no values are stored",
    ),
    Difference(
        "lira",
        "log S in place of scaled confidences; the quantile in place of the tail's probability, which ranks alike",
        "offline: the normal density, at the median over reference models",
        "lira",
        (),
        "theirs is for classifiers",
    ),
    Difference(
        "rmia",
        "the ratio alone, which ranks alike; exp of minus the mean statistic per element as the likelihood",
        "the share of population images that the ratio exceeds; the likelihood of a class",
        "rmia",
        (),
        "theirs is for classifiers",
    ),
    Difference(
        "bavaria",
        "the tail of the predictive Student t of an image that was not seen",
        "offline: the density of members, from a prior over training images of shadow models, over that Student t's",
        "bavaria",
        (),
        "the posterior of images that were not seen is theirs; no values are stored",
    ),
    Difference(
        "quantile",
        "a normal distribution of the logarithm, from which every quantile follows; 5 small networks of 8 layers, the mean of their scores",
        "a network for each quantile, by the pinball loss; the majority of a bag of weak attackers. No public code was found",
        "quantile",
        (),
        "no values are stored",
    ),
    Difference(
        "rediffuse",
        "the last step leads to the clean image; the distance of all values",
        "the last step leads to timestep 0; squared distances, of which each colour channel counts as a sample of its own. Stable "
        "Diffusion: SSIM of the decoded images in grey, one variation, t = k = 50, guidance of 7.5",
        "rediffuse:variant=authors rediffuse:variant=authors,decision=ssim,variations=1,timesteps=50,k=50",
        _cases("rediffuse"),
        "of the distance; SSIM is not. There is no guidance, and grey values are not rounded to 8 bits",
    ),
    Difference(
        "rediffuse-nns",
        "the network of secmi-nns",
        RESNET,
        "rediffuse-nns:variant=authors",
        _cases("rediffuse-nns"),
        "of the maps; the classifier is not compared",
    ),
    Difference(
        "gsa1 gsa2",
        "t = 50, 150, …, 950; 100 small boosted trees",
        "t = 99, 199, …, 999 (the public script for DDPM: fifteen, 100, 200, …, 1,499 of 1,500); XGBoost, 200 trees at its defaults, "
        "features scaled for shadow and target apart",
        "gsa1:variant=authors gsa2:variant=authors",
        _cases("gsa1", "gsa2"),
        "of the gradient norms; the trees are scikit-learn's at XGBoost's defaults, and are not compared",
    ),
    Difference(
        "forensics-vlb forensics-mse forensics-xstart",
        "ε as predicted; the exact normal distribution at t = 0; a window of timesteps",
        "x̂0 clipped to [-1, 1] and ε computed from it anew; tanh in place of the normal distribution at t = 0; all timesteps",
        "forensics-vlb:variant=authors forensics-mse:variant=authors forensics-xstart:variant=authors",
        _cases("forensics-vlb", "forensics-mse", "forensics-xstart"),
        "without clipping, for t ≥ 1, too",
    ),
    Difference(
        "loss secmi pia",
        "filtered=…: a square of half-side 5 that would hold every frequency is refused",
        "FreMIA: the same filter; Loss and PIA compare x0 with its prediction, and not noises, which differ by a factor per timestep; a "
        "square that would hold every frequency becomes empty",
        "loss:filtered=5,0.2 secmi:filtered=5,0.2 pia:filtered=5,0.2",
        tuple(case.attack for case in CASES if "filtered" in case.attack),
    ),
    Difference(
        "nearest-generated",
        "distances of pixels in [0, 1]",
        "GAN-Leaks: in [-1, 1], twice ours, which ranks alike",
        "nearest-generated",
        _cases("nearest-generated"),
    ),
)


def differences_section(agreement: Mapping[str, float]) -> str:
    """Return the table and the list of sources.

    Args:
        agreement: the largest relative difference of each case in `studies.agreement`, by its attack.
    """
    rows = []
    for row in DIFFERENCES:
        figures = f"{max(agreement[case] for case in row.compared):.0e}" if row.compared else "—"
        spelled = ", ".join(f"`{text}`" for text in row.spelled.split())
        names = ", ".join(f"`{name}`" for name in row.attacks.split())
        rows.append([names, row.ours, row.theirs, spelled, f"{figures}; {row.missing}" if row.missing else figures])
    headers = ["Attack", "Our default", "The authors' code", "How to get it", "Largest relative difference"]
    sources = dict.fromkeys(case.source for case in CASES)
    listed = "; ".join(f"`{source.partition(',')[0]}`{source.removeprefix(source.partition(',')[0])}" for source in sources)
    return f"{markdown_table(headers, rows, raw=True)}\n\nThe values come from {listed}."
