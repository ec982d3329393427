"""The script that ``evaluate.load("sima")`` runs: it takes the first metric class in this file."""

from mia_hub.evaluate_module.metric import Sima

__all__ = ["Sima"]
