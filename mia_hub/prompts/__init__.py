"""Prompts that a text-to-image model has memorised, detected by a few queries at the start of sampling.

A *caption* is what a model was conditioned on in training, a *prompt* what one asks of it now. **A higher score means that a prompt is more
likely memorised**: that the model answers it with one training image, again and again.
"""

from __future__ import annotations

from mia_hub.prompts.alignment import Alignment
from mia_hub.prompts.curvature import Curvature
from mia_hub.prompts.detector import PromptDetector
from mia_hub.prompts.guidance_norm import GuidanceNorm
from mia_hub.prompts.registry import DETECTORS, get_detector, list_detectors

DETECTORS.update({detector.name: detector for detector in (GuidanceNorm, Curvature, Alignment)})

__all__ = ["DETECTORS", "Alignment", "Curvature", "GuidanceNorm", "PromptDetector", "get_detector", "list_detectors"]
