"""The answer about one image, with its score profile over the timesteps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mia_hub.metrics.p_values import Calibration
from mia_hub.references.bands import Band
from mia_hub.references.verdict_scores import VerdictScores


@dataclass(frozen=True)
class Profile:
    """Membership score per timestep, with the bands of known members and non-members. **Higher = more likely a member.**

    Attributes:
        timesteps: T of them, increasing.
        scores: of the image, one per timestep.
        members, nonmembers: bands of known images; None where none are known.
        attack: short name of the attack that the scores are of. It need not be the one that gives the verdict.
    """

    timesteps: tuple[int, ...]
    scores: tuple[float, ...]
    members: Band | None
    nonmembers: Band | None
    attack: str = ""


@dataclass(frozen=True)
class ImageCheck:
    """The answer for one image.

    Attributes:
        name, id: of the image.
        model: id of the model that was queried.
        attack: name of the attack that gives the verdict.
        source: where the known non-members come from; None without any.
        verdict: "evidence", "cannot-tell", "not-comparable" or "no-null"; never "not a member", which no score can show.
        sentence: the answer in words.
        caveats: what the answer does not mean.
        profile: score per timestep with the bands of known images.
        timestep: at which the verdict is made.
        score: at that timestep; higher = more likely a member.
        p_value: conformal, in (0, 1], the one of the two below that decides; None where no verdict is possible.
        q_value: p-value adjusted for the number of images checked together; None for a single one.
        share_below: share of known non-members with a lower score.
        n_null: number of known non-members that it was compared with.
        comparable: whether the image is of the reference images' kind; None where that can't be determined.
        notes: what was changed when the image was read.
        known_scores: the verdict's own scores of the known images, for a plot; None where there is no verdict.
        candidate: of an image that may be an altered copy, what looks most like a training image: "as it is", "mirrored", …; None where
            copies were not searched.
        calibration: what ``p_value`` holds for: "conditional", this reference, with 95 % confidence; or "marginal", the average over
            references; None without one.
        p_value_conditional, p_value_marginal: the p-values of either kind; the first is None where the reference is too small for it.
    """

    name: str
    id: str
    model: str
    attack: str
    source: str | None
    verdict: str
    sentence: str
    caveats: tuple[str, ...]
    profile: Profile
    timestep: int
    score: float
    p_value: float | None
    q_value: float | None
    share_below: float | None
    n_null: int
    comparable: bool | None
    notes: tuple[str, ...]
    known_scores: VerdictScores | None = None
    candidate: str | None = None
    calibration: Calibration | None = None
    p_value_conditional: float | None = None
    p_value_marginal: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, with the profile and its bands, and the known images' scores."""
        return asdict(self)

    def to_entry(self) -> dict[str, Any]:
        """Return `to_dict` without what all images of one reference share: of the profile, "scores" by timestep."""
        # Not copied first: there are as many known scores as known images.
        entry = asdict(replace(self, profile=Profile((), (), None, None, ""), known_scores=None))
        del entry["profile"], entry["known_scores"]
        return entry | {"scores_of": self.profile.attack, "scores": dict(zip(map(str, self.profile.timesteps), self.profile.scores))}

    @classmethod
    def from_entry(cls, entry: dict[str, Any], reference: dict[str, Any] | None) -> ImageCheck:
        """Return the answer from its entry, the inverse of `to_entry`.

        Args:
            entry: as `to_entry` returns it.
            reference: "reference" as `mia_hub.Checker.to_dict` returns it.
        """
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        scores, attack = entry["scores"], entry["scores_of"]
        del fields["scores"], fields["scores_of"]
        members, nonmembers = (Band.from_dict(reference[name]) if reference else None for name in ("member_band", "nonmember_band"))
        known = VerdictScores.from_dict(reference["verdict_scores"]) if reference and entry["p_value"] is not None else None
        profile = Profile(tuple(map(int, scores)), tuple(scores.values()), members, nonmembers, attack)
        return cls(**fields, profile=profile, known_scores=known)
