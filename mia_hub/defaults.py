"""Choices that several ways in share."""

from pathlib import Path

# The folder of this package, and of the demo model with its split, scores and card in it.
PACKAGE_FOLDER = Path(__file__).parent
DEMO_FOLDER = PACKAGE_FOLDER / "demo"
# The attack that verdicts on images are made by: of those that judge an image as it is and hold under every treatment on the demo, the one
# that recognises most members (docs/studies/copies.md; on models of latents docs/studies/copies_on_latents.md).
VERDICT_ATTACK = "sima-lp"
VERDICT_ATTACK_ON_LATENTS = "sima-cn"
# Where a base is given, or in memory as that under a LoRA is (docs/studies/fine_tunes.md).
VERDICT_ATTACK_GIVEN_BASE = "sima-lpb"
VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS = "sima-b"
# The attacks that give verdicts on images that may be altered copies (docs/studies/copies.md, docs/studies/copies_on_latents.md).
COPIES_ATTACK = "sima-copies"
COPIES_ATTACK_ON_LATENTS = "sima-cc-copies"
COPIES_ATTACK_GIVEN_BASE_ON_LATENTS = "sima-b-copies"
