"""Choices that several ways in share."""

from pathlib import Path

# The folder of this package, and of the demo model with its split, scores and card in it.
PACKAGE_FOLDER = Path(__file__).parent
DEMO_FOLDER = PACKAGE_FOLDER / "demo"
# The attack that verdicts on images are made by: of those measured on the demo, the one that recognises most members (docs/attacks.md).
VERDICT_ATTACK = "sima-cn"
