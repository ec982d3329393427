"""Every sentence of an answer: verdicts, what they do not mean, and notes. Here, and only here, their wording is decided.

A sentence that gives a verdict begins with the verdict and a colon. No sentence may say more than the statistics behind it: a small p-value
is evidence about one model and not proof, and no score can show that an image was *not* used.
"""

from __future__ import annotations

from collections.abc import Sequence

from mia_hub.checking.treated_images import FalseEvidence
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NO_NULL, NOT_COMPARABLE
from mia_hub.flags import FLAGS
from mia_hub.metrics.calibration_conditional import enough_for, smallest
from mia_hub.metrics.candidates import AS_IT_IS, FEWEST_FOR_CANDIDATES
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import ALPHA, CONDITIONAL, ENOUGH_NULL, FALSE_DISCOVERY_RATE, MARGINAL, Calibration, CriticalScore
from mia_hub.metrics.set_tests import Fraction, SetTest
from mia_hub.references.power_texts import smallest_effect_text
from mia_hub.references.treatment_check import BLURRED, COMPRESSED, FEWEST_FOR_SIGNS, NARROW, NOISY, SHARPENED, TINTED
from mia_hub.rendering.numbers import floored_percent, p_text, share

# --- answers about one image ---

VERDICTS = {
    EVIDENCE: "Evidence that this image was in the training set",
    CANNOT_TELL: "Cannot tell",
    NOT_COMPARABLE: "Not comparable",
    NO_NULL: "No verdict is possible",
}
# What a p-value holds for.
HOLDS = {
    CONDITIONAL: "This p-value holds for this one reference, with 95 % confidence.",
    MARGINAL: "This p-value holds on average over references.",
}


def image_sentence(
    verdict: str,
    *,
    model: str,
    source: str | None = None,
    n_null: int = 0,
    share_below: float | None = None,
    p_value: float | None = None,
    q_value: float | None = None,
    candidate: str | None = None,
    difference: str = "",
    calibration: Calibration | None = None,
    enough: int = ENOUGH_NULL,
) -> str:
    """Return the answer about one image: a sentence that begins with the verdict, and a second one.

    The second one has the next step where there is no verdict; otherwise it says what the p-value holds for.

    Args:
        model, source, n_null, share_below, p_value, q_value, calibration, candidate: as in `mia_hub.ImageCheck`; the last five where
            there is a p-value.
        enough: number of known non-members that a verdict takes.
        difference: `BORDERED`, or from `treated_text`: why the image is not comparable, apart from what it shows.
    """
    if verdict == NO_NULL:
        return (
            f"{VERDICTS[verdict]}: there are no known non-members to compare this image with. Give {enough} or more images of the "
            f"same kind that are certainly not in the training set of the model {model}."
        )
    if verdict == NOT_COMPARABLE and difference:
        return f"{VERDICTS[verdict]}: {difference}"
    if verdict == NOT_COMPARABLE:
        return (
            f"{VERDICTS[verdict]}: this image is unlike the {n_null:,} images that scores of the model {model} are compared with "
            f"({source}). For a verdict, name the model that you suspect, and give {enough} or more images of the same kind as this "
            "one that are certainly not in its training set."
        )
    assert share_below is not None and p_value is not None
    side, part = ("more", share_below) if share_below >= 0.5 else ("less", 1 - share_below)
    than = "any" if part == 1 else f"{floored_percent(part):.1f} %"
    few = few_nonmembers_warning(n_null, calibration)
    lowest = ", the lowest possible with so few" if few and p_value <= _lowest(n_null, calibration) else ""
    # Above `ALPHA` q is 1 whatever p is, and says nothing.
    together = f" (q = {p_text(q_value)} among the images checked together)" if q_value is not None and p_value <= ALPHA else ""
    found = "" if candidate is None or verdict != EVIDENCE else f" {winner_text(candidate)}"
    return (
        f"{VERDICTS[verdict]}: it is {side} like a training image of the model {model} than {than} of {n_null:,} images known not to be in "
        f"the training set; p = {p_text(p_value)}{together}{lowest}.{found}{f' {HOLDS[calibration]}' if calibration else ''}"
    )


def winner_text(candidate: str) -> str:
    """Return which candidate of an image that may be a copy looks most like a training image, as a sentence."""
    return f"It looks most like one {candidate if candidate == AS_IT_IS else f'when it is {candidate}'}."


def not_searched_text(reason: str) -> str:
    """Return that copies were asked for and not searched; ``reason``: a clause, from `too_few_for_copies` or below it."""
    return f"Copies were not searched: {reason}. The image was judged as it is."


def too_few_for_copies(n_null: int) -> str:
    """Return why: too few known non-members."""
    return f"that takes {FEWEST_FOR_CANDIDATES} known non-members, and there are {n_null:,}"


def other_attack_for_copies(attack: str, wanted: str) -> str:
    """Return why: the reference was scored by another attack than the one that searches copies."""
    return f"the reference was scored by the attack {attack}; build one with the attack {wanted} for that"


# What the treatment of an image differs in from that of the reference images, by the names of `mia_hub.references.treatment_check`.
DIFFERENCES = {
    COMPRESSED: "it has been JPEG-compressed more strongly than the reference images",
    NOISY: "it is noisier than the reference images",
    BLURRED: "it is blurrier than the reference images, as after it was enlarged, reduced or smoothed",
    SHARPENED: "it is sharper than the reference images",
    NARROW: "it spans fewer grey levels than the reference images, as after its contrast or brightness was reduced",
    TINTED: "it is more strongly tinted than the reference images",
}
BORDERED = (
    "this image has a border of one colour, which hardly any reference image has, so that its score says little about what is inside. Cut "
    "the border off, and check the image again."
)
FULL_CONTRAST = "Stretched to full contrast (PIL.ImageOps.autocontrast) it would be comparable: check that version of it."


def treated_text(
    attack: str, found: FalseEvidence, differences: Sequence[str], *, other: str = "", without_base: bool = False, measured: bool = True
) -> str:
    """Return why an attack gives no verdict on an image for its treatment, as a clause, with the next step.

    Args:
        attack: its name.
        found: where it gives too much false evidence.
        differences: signs of treatment that the image bears; () where there are too few known non-members to tell.
        other: name of an attack that isn't refused so; "" where there is none.
        without_base: whether that one is given no base.
        measured: whether that one is known to hold on models like this one.
    """
    why = DIFFERENCES[differences[0]] if differences else f"that shows only with {FEWEST_FOR_SIGNS} known non-members or more"
    if other:
        holds = ", which holds on treated images" * measured
        advice = f"For a verdict, choose the attack {other}{' and leave the base out' * without_base}{holds}."
    else:
        advice = f"For a verdict, give {'non-members that were treated like this image' if differences else f'{FEWEST_FOR_SIGNS} or more'}."
    return (
        f"the attack {attack} gives a verdict only on images that were treated like the reference images, and {why}. "
        f"{false_evidence_text(attack, found)} {advice}"
    )


def false_evidence_text(attack: str, found: FalseEvidence) -> str:
    """Return where an attack gives too much false evidence, as a sentence."""
    return (
        f"Where it was measured, {attack} gave evidence to {found.count} of {found.n} images that were never used, under the treatment "
        f"“{found.treatment}”."
    )


def treatment_note(differences: Sequence[str]) -> str:
    """Return in what the treatment of an image differs from that of the reference images, as a sentence."""
    clauses = "; ".join(DIFFERENCES[name] for name in differences)
    return f"{clauses[:1].upper()}{clauses[1:]}; that changes its score."


def _lowest(n_null: int, calibration: Calibration | None) -> float:
    return smallest(n_null) if calibration == CONDITIONAL else 1 / (n_null + 1)


def few_nonmembers_warning(n_null: int, calibration: Calibration | None = None) -> str | None:
    """Return what it means that there are too few known non-members for evidence; None where there are enough."""
    lowest = _lowest(n_null, calibration)
    if lowest <= ALPHA:
        return None
    p, enough = ("a p-value that holds for this reference", enough_for(ALPHA)) if calibration == CONDITIONAL else ("p", ENOUGH_NULL)
    return (
        f"With {n_null} known non-members no image can get evidence: {p} can't fall below {p_text(lowest)}, and evidence "
        f"starts at {p_text(ALPHA)}. Give {enough} or more."
    )


def shared_reference_caveat(n_null: int) -> str:
    """Return what it means that many people share a reference that has no p-values that hold for it alone."""
    return (
        f"Many people share this reference of {n_null:,} non-members. By chance it may give evidence too often, for everybody: its "
        "p-values hold on average over references only."
    )


P_VALUE_CAVEAT = "The p-value is not the probability of innocence"
P_VALUE_IN_GENERAL = (
    f"{P_VALUE_CAVEAT}: it is the share of images never in the training set that would look at least this much like training images "
    "by chance."
)
HOLDS_FOR = "The answer holds for images that are like the reference images and were processed in the same way."
ASK_FOR_COPIES = "If the image may be such a copy, search copies, too: --copies, copies=True in Python, or a box on the page."
# Measured by studies/copies.py.
TREATMENT = (
    f"{HOLDS_FOR} An altered copy can look less like a training image than it is: on the demo, few or none of the training images that had "
    "been shifted by one pixel or mirrored got evidence, and JPEG compression and enlarging cost many theirs."
)
TREATMENT_OF_COPIES = (
    f"{HOLDS_FOR} These copies of it were judged, too: {{copies}}. Other altered copies can look less like a training image than they are: "
    "on the demo, hardly any of the training images that had been shifted by one pixel, cropped or reduced got evidence."
)
# Measured by studies/copies_on_latents.py.
TREATMENT_ON_LATENTS = (
    f"{HOLDS_FOR} An altered copy can look less like a training image than it is: on small models of latents, hardly any of the training "
    "images that had been mirrored got evidence, and shifts by a pixel, crops and reductions cost many theirs."
)
TREATMENT_OF_COPIES_ON_LATENTS = (
    f"{HOLDS_FOR} These copies of it were judged, too: {{copies}}. Other altered copies can look less like a training image than they are: "
    "on small models of latents, up to 3 in 10 of the training images that had been shifted by a pixel got none."
)


def treatment_caveat(*, on_pixels: bool, copies: str = "", asked_for_copies: bool = False) -> str:
    """Return what an answer doesn't hold for.

    Args:
        on_pixels: whether the model is one of pixels.
        copies: what was judged besides the image, in words; "" where nothing was.
        asked_for_copies: whether that was asked for.
    """
    if not copies:
        return (TREATMENT if on_pixels else TREATMENT_ON_LATENTS) + f" {ASK_FOR_COPIES}" * (not asked_for_copies)
    return (TREATMENT_OF_COPIES if on_pixels else TREATMENT_OF_COPIES_ON_LATENTS).format(copies=copies)


def base_caveat(base: str) -> str:
    """Return what an answer presupposes whose attack compares the model with its base, of that id."""
    return (
        f"The model was compared with its base, {base}: the answer holds if the known non-members are in the training set of neither. An "
        f"image that {base} was trained on itself is easily missed."
    )


def reference_models_caveat(reference_models: Sequence[str]) -> str:
    """Return what an answer presupposes whose attack compares the model with reference models, of those ids."""
    holds = "it has seen neither the image nor" if len(reference_models) == 1 else "none of them has seen the image or"
    names = f"{'reference model' if len(reference_models) == 1 else 'reference models'} {', '.join(reference_models)}"
    return f"The model was compared with the {names}: the answer holds if {holds} the known non-members."


def image_caveats(
    verdict: str,
    p_value: float | None,
    q_value: float | None,
    n_null: int,
    power: Estimate | None,
    critical: CriticalScore | None = None,
    calibration: Calibration | None = None,
    *,
    treatment: str = TREATMENT,
    false_evidence: str = "",
) -> tuple[str, ...]:
    """Return what an answer about one image does *not* mean.

    Args:
        verdict, p_value, q_value, n_null, calibration: as in `mia_hub.ImageCheck`.
        power: share of known members that reach p ≤ `ALPHA`; None where no members are known.
        critical: score above which an image gets evidence, for the smallest effect that could show where the power is unknown.
        treatment: from `treatment_caveat`.
        false_evidence: from `false_evidence_text`, where the attack gives too much of it; "" where it doesn't.
    """
    if verdict == NO_NULL:
        return (
            "The curve alone says nothing about membership: how high a score is depends on how hard the image is, whether it was used or "
            "not.",
        )
    if verdict == NOT_COMPARABLE:
        return (
            "This says nothing about whether the image was in the training set: images of another kind can't tell what its score means.",
        )
    assert p_value is not None
    about, up_to = ("up to", "up to ") if calibration == CONDITIONAL else ("about", "")
    p_value_caveat = (
        f"{P_VALUE_CAVEAT}: {about} {share(p_value)} of images never in the training set would "
        "look at least this much like training images by chance."
    )
    if verdict == CANNOT_TELL:
        warning = few_nonmembers_warning(n_null, calibration)
        return (*([warning] if warning else []), p_value_caveat, _missed_members_caveat(power, critical), treatment)
    return (
        p_value_caveat,
        f"It is statistical evidence about one model, not proof: {_false_evidence(q_value, up_to)}",
        "A near copy of this image in the training set would give the same result, and an image that the model itself drew may, too.",
        *([false_evidence] if false_evidence else []),
        treatment,
    )


def _missed_members_caveat(power: Estimate | None, critical: CriticalScore | None) -> str:
    if power:
        missed = f"the attack recognises {share(power.value)} of known training images at p ≤ {p_text(ALPHA)} and misses the others."
    else:
        missed = "for this model it isn't known how many training images the attack misses."
        missed += f" {smallest_effect_text(critical)}" if critical else ""
    return f"“Cannot tell” doesn't clear the image: {missed}"


def _false_evidence(q_value: float | None, up_to: str) -> str:
    """Return how much evidence is expected to be false: of one image by itself, or, with a q-value, of several checked together."""
    if q_value is None:
        return (
            f"by design, {up_to}{share(ALPHA)} of images that were never used get this verdict too, so checking many images one by one "
            "will turn up false ones."
        )
    return f"of all images that get this verdict, up to {share(FALSE_DISCOVERY_RATE)} are expected to be false."


def q_value_text(n_judged: int) -> str:
    """Return what a q-value is.

    Args:
        n_judged: the number of images checked together that could be compared.
    """
    return (
        f"q is p adjusted for the {n_judged} image{'s' * (n_judged != 1)} judged together (Benjamini–Hochberg; p above {ALPHA:g} counts as "
        f"1): of those called evidence, at most {share(FALSE_DISCOVERY_RATE)} are expected to be false discoveries (FDR)."
    )


# --- answers about a set of images ---

SET_VERDICTS = VERDICTS | {EVIDENCE: "Evidence that images of this set were in the training set"}


def set_sentence(verdict: str, *, model: str, n: int, n_null: int, test: SetTest | None, difference: str = "", by_cdi: bool = False) -> str:
    """Return the answer about a set: a sentence that begins with the verdict and, where there is none, a second one with the next step.

    Args:
        model, n, n_null: as in `mia_hub.SetCheck`.
        test: where there is a p-value.
        difference: what makes the set not comparable.
        by_cdi: whether the test is CDI's.
    """
    if verdict == NO_NULL:
        return (
            f"{SET_VERDICTS[verdict]}: there are no known non-members to compare these images with. Give {ENOUGH_NULL} or more images of "
            f"the same kind that are certainly not in the training set of the model {model}."
        )
    if verdict == NOT_COMPARABLE:
        return (
            f"{SET_VERDICTS[verdict]}: {difference}. For a verdict, give {ENOUGH_NULL} or more images drawn from the same source as these "
            "that are certainly not in the training set."
        )
    assert test is not None
    if by_cdi:
        return (
            f"{SET_VERDICTS[verdict]}: half of the {n} images were tested. What the model {model} predicts for them tells them from as "
            "many images known not to be in the training set, by a rule that was learned on the other half, with p = "
            f"{p_text(test.p_value)}."
        )
    side = "more" if test.scores.mean() >= 0 else "no more"
    return (
        f"{SET_VERDICTS[verdict]}: as a set, the {n} images look {side} like training images of the model {model} than {n_null:,} "
        f"images known not to be in the training set do; p = {p_text(test.p_value)}."
    )


def set_caveats(verdict: str, test: SetTest | None, *, by_cdi: bool = False) -> tuple[str, ...]:
    """Return what an answer about a set does *not* mean; ``by_cdi``: whether the test is CDI's."""
    if test is None:
        return ("This says nothing about whether the images were in the training set.",)
    strength = (
        "It is statistical evidence about the set and one model, not proof, and doesn't say which of the images were used; by design, "
        f"{share(ALPHA)} of sets that were never used get this verdict too."
        if verdict == EVIDENCE
        else "“Cannot tell” doesn't clear the set: it may hold few training images, or the model may remember them too weakly."
    )
    if by_cdi:
        chance = f"{P_VALUE_CAVEAT}: about {share(test.p_value)} of sets that were never used would be told apart this well by chance."
        return (chance, strength, CDI_CAVEAT)
    return (
        f"{P_VALUE_CAVEAT}: about {share(test.p_value)} of sets that were never used would look at least this much like training images by "
        "chance.",
        strength,
        "The answer holds if the known non-members come from the same source as these images: any other difference between the two that "
        "makes images easier for the model would look the same.",
    )


CDI_CAVEAT = (
    "This is CDI's test (arXiv 2411.12858): on one half of these images, and of as many known non-members, a classifier learns to tell the "
    "two apart, in whatever way they differ, and it is tested on the other half. So any difference in kind that shows in the model's "
    "predictions counts as evidence, in any direction; the default test looks in one direction, fixed beforehand."
)


def unlike_images_text(n_unlike: int, n: int) -> str:
    """Return what makes a set not comparable when images in it are."""
    return f"{n_unlike} of the {n} images are unlike the images that scores are compared with"


def blind_classifier_text(blind: Estimate) -> str:
    """Return what makes a set not comparable when a classifier that never sees the model recognises it."""
    return f"the images can be told from the known non-members without querying the model (a blind classifier reaches AUC {blind})"


def fraction_text(fraction: Fraction) -> str:
    """Return the estimated share of members in words."""
    if fraction.at_least:
        return f"at least {share(fraction.low)}, with 95 % confidence"
    return f"{share(fraction.value)} (95 % interval: {share(fraction.low)} to {share(fraction.high)})"


def more_needed_text(more_needed: int | None) -> str:
    """Return in words how many more images evidence would take."""
    if more_needed is None:
        return "no number of further images like these"
    return "none" if more_needed == 0 else f"about {more_needed:,} further images, if they are like these"


# --- notes: what was done with the images, and what is known of them ---

KNOWN_IMAGE_NOTES = {
    1: "This image is itself one of the images known to be in the training set.",
    0: "This image is itself one of the images known not to be in the training set, and was not compared with itself.",
}


def scaled_note(size: tuple[int, int], model_size: tuple[int, int]) -> str:
    """Return the note on an image of another size than the model's; sizes are ``(width, height)``."""
    (width, height), (model_width, model_height) = size, model_size
    return f"It was scaled from {width}×{height} to the model's {model_width}×{model_height} pixels, which changes its score."


def copies_note(copies: int) -> str:
    """Return the note on copies in a set."""
    return f"{copies} copies of images in the set were left out." if copies > 1 else "1 copy of another image in the set was left out."


def overlap_note(overlap: int) -> str:
    """Return the note on known non-members that are in the set themselves."""
    return f"{overlap} of the known non-members are in the set themselves; the set was not compared with them."


def unreadable_note(unreadable: int) -> str:
    """Return the note on files of a set that could not be read."""
    files = "1 file could not be read, and is" if unreadable == 1 else f"{unreadable} files could not be read, and are"
    return f"{files} not part of the set."


def remark_notes(remarks: dict[str, str]) -> tuple[str, ...]:
    """Return notes on the remarks of a `mia_hub.ScoreTable`, with what each means."""
    return tuple(f"{raised[:1].upper()}{raised[1:]}. {FLAGS[name][1]}" for name, raised in remarks.items())
