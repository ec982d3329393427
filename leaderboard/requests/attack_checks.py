"""Attacks that strangers may have run: known ones, with plain parameters, at a bounded cost; and their one canonical spelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leaderboard.errors import SubmissionError
from mia_hub.errors import MiaHubError
from mia_hub.system.validation import shortened

if TYPE_CHECKING:
    from mia_hub.attacks import Attack

# Of one attack. The most expensive of the attacks' defaults takes 210 queries per image, and 12,800 before the first image.
MOST_QUERIES, MOST_SETUP_QUERIES = 10_000, 1_000_000
# Of an attack's parameters. Some attacks count up to theirs before they can state their cost.
LARGEST_NUMBER = 100_000


def canonical_attacks(attacks: Sequence[str]) -> tuple[str, ...]:
    """Return attacks in their shortest spelling and in order.

    Raises:
        SubmissionError: if one is unknown, can't be submitted, or is named twice.
    """
    canonical = [canonical_spelling(attack) for attack in attacks]
    if len(set(canonical)) < len(canonical):
        raise SubmissionError("The same attack is named more than once.")
    return tuple(sorted(canonical))


def canonical_spelling(text: str) -> str:
    """Return an attack's shortest spelling, or ``text`` itself if that spelling is abridged and can't be read back.

    Raises:
        SubmissionError: if it is no attack, or none that strangers may have run.
    """
    from mia_hub.attacks import get_attack
    from mia_hub.attacks.spelling import parse_attack, parse_name_and_parameters, spell

    try:
        name, parameters = parse_name_and_parameters(text)
        # Before the attack is constructed: some read files then.
        _check_parameters(name, parameters)
        attack = get_attack(name, **parameters)
    except SubmissionError:
        raise
    except MiaHubError as error:
        raise SubmissionError(f"attacks: {error}") from error
    _check_companions(attack)
    _check_cost(attack, text)
    short = spell(attack)
    try:
        return short if parse_attack(short) == attack else text
    except MiaHubError:
        return text


def _check_parameters(name: str, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that reach into the machine that an attack would run on, and numbers too large to compute with."""
    from mia_hub.attacks import ATTACKS

    local = ATTACKS[name].local_parameters if name in ATTACKS else ()
    for parameter, value in parameters.items():
        if parameter in local:
            raise SubmissionError(
                f"attacks: {parameter} of {name!r} takes something that only exists on the machine that runs it, such as files or a "
                "function, and can't be submitted. Leave it out, or submit the scores of your own run."
            )
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, (int, float)) and not abs(item) <= LARGEST_NUMBER:
                raise SubmissionError(f"attacks: {parameter} of {name!r} may be {LARGEST_NUMBER:,} at most; got {shortened(item)}.")


def _check_companions(attack: Attack) -> None:
    """Refuse an attack that compares the model with others that a request can't name."""
    if attack.uses_reference_models:
        raise SubmissionError(
            f"attacks: {attack.name!r} compares the model with reference models, which a submission can't name. Choose another attack."
        )


def _check_cost(attack: Attack, text: str) -> None:
    """Refuse an attack that queries the model too often."""
    for cost, most, unit in (
        (attack.queries_per_image, MOST_QUERIES, "queries per image"),
        (attack.setup_queries, MOST_SETUP_QUERIES, "queries before the first image"),
    ):
        if cost > most:
            hint = "Use fewer draws or timesteps."
            raise SubmissionError(f"attacks: {text!r:.80} takes {cost:,} {unit}; at most {most:,} are accepted. {hint}")
