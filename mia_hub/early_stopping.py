"""The public address of `mia_hub.checking.early_stopping`."""

from mia_hub.checking.early_stopping import EarlyCheck, EarlyChecker, EarlyStopping, doubling

__all__ = ["EarlyCheck", "EarlyChecker", "EarlyStopping", "doubling"]
