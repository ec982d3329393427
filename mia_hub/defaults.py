"""Choices that several ways in share."""

# The attack that verdicts on pictures are made by: of those measured on the demo, the one that recognises most members (docs/attacks.md).
VERDICT_ATTACK = "sima-cn"
