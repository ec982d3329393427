"""The figure of an answer: one image's score at each timestep, as SVG text."""

from __future__ import annotations

from mia_hub.checking.image_answers import Profile
from mia_hub.rendering.svg import (
    INK,
    MEMBERS,
    NONMEMBERS,
    SCORE_LABEL,
    LegendEntry,
    add_band,
    add_legend,
    add_mark,
    new_figure,
    timestep_axis,
    to_svg,
)


def profile_svg(profile: Profile, timestep: int, *, title: str | None = None, line: str = "this image", judged: bool = True) -> str:
    """Draw one image's membership score per timestep, over the bands of known members and known non-members.

    Args:
        profile: the scores, and the bands where there are any.
        timestep: at which the score is given, and the verdict made; it is marked.
        title: a line above, such as the image's name.
        line: what the scores are of, for the legend.
        judged: whether there is a verdict; without known non-members there never is.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    judged = judged and profile.nonmembers is not None
    known = [
        (band, name, colour, dashes)
        for band, name, colour, dashes in (
            (profile.members, "members", MEMBERS, (0, (5, 2))),
            (profile.nonmembers, "non-members", NONMEMBERS, (0, (1.2, 1.6))),
        )
        if band is not None
    ]
    figure, axes = new_figure(
        236 + 15 * (1 + len(known)),
        f"{profile.attack} score (higher = more like a training image)" if profile.attack else SCORE_LABEL,
        title,
    )
    x, legend = profile.timesteps, list[LegendEntry]()
    for band, name, colour, dashes in known:
        legend.append((add_band(axes, x, band.low, band.middle, band.high, colour, dashes), f"{band.n:,} known {name}: median, 5–95 %"))
    (curve,) = axes.plot(x, profile.scores, color=INK, marker="o", markersize=3.6, linewidth=1.8, zorder=5)
    legend.insert(0, (curve, line))
    add_mark(axes, timestep, f"t = {timestep}: {'verdict made' if judged else 'score given'} here")
    marked = [score for t, score in zip(x, profile.scores) if t == timestep]
    axes.plot([timestep] * len(marked), marked, "o", color="white", markersize=8, markeredgecolor=INK, markeredgewidth=2, zorder=6)
    timestep_axis(axes, x)
    add_legend(figure, legend)
    return to_svg(figure, _description(profile, timestep, title, judged))


def _description(profile: Profile, timestep: int, title: str | None, judged: bool) -> str:
    """Return the figure in words, for those who can't see it."""
    text = f"Membership score of {title or 'this image'} at {len(profile.timesteps)} timesteps."
    if timestep not in profile.timesteps:
        return text
    at = profile.timesteps.index(timestep)
    text += f" At t = {timestep}{', where the verdict is made,' if judged else ''} it is {profile.scores[at]:.4g}"
    for band, name in ((profile.members, "members"), (profile.nonmembers, "non-members")):
        if band is not None:
            text += f"; of known {name} 90 % lie between {band.low[at]:.4g} and {band.high[at]:.4g}, with median {band.middle[at]:.4g}"
    return text + ". Higher is more like a training image."
