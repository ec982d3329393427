"""What ``evaluate.load("sima")`` runs: it takes the first metric class that it finds in this file."""

from mia_hub.evaluate_module.metric import Sima

__all__ = ["Sima"]
