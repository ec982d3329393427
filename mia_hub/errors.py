"""Every error that a user can cause: each message names what was given, what is accepted, and the next step."""


class MiaHubError(Exception):
    """Base of all errors raised on purpose by mia_hub. The app and the command line show its message, without a traceback."""


class ImageError(MiaHubError):
    """A picture that can't be read, or is not fit to be scored."""


class ModelError(MiaHubError):
    """A model that can't be found, is refused, or fails while it is queried."""


class SplitError(MiaHubError):
    """Members and non-members that can't be found, or can't be compared."""


class AttackError(MiaHubError):
    """An unknown attack, or parameters that an attack can't take."""


class MetricError(MiaHubError):
    """Figures that can't be computed from the given scores: one class only, NaN, or too few non-members for the asked FPR."""
