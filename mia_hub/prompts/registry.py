"""The registered detectors, by name."""

from __future__ import annotations

from typing import Any

from mia_hub.attacks.spelling import parse_name_and_parameters
from mia_hub.errors import MiaHubError, PromptError
from mia_hub.prompts.detector import PromptDetector
from mia_hub.rendering.suggestions import check_parameters, look_up

# Filled by `mia_hub.prompts`.
DETECTORS: dict[str, type[PromptDetector]] = {}


def list_detectors() -> list[str]:
    """Return the registered names, sorted."""
    return sorted(DETECTORS)


def get_detector(name: str | PromptDetector, **parameters: Any) -> PromptDetector:
    """Return a detector by name, with its parameters; a PromptDetector is returned as it is.

    Args:
        name: one of `list_detectors`, also with parameters as in "curvature:form=exact,draws=8"; or a PromptDetector.
        parameters: the detector's fields.

    Raises:
        PromptError: for an unknown name or parameter (the nearest known one is suggested), or a value that the parameter can't take.
    """
    if isinstance(name, PromptDetector):
        if parameters:
            raise PromptError(f"{name!r} has its parameters already; give a name to set {', '.join(parameters)}.")
        return name
    try:
        given, spelled = parse_name_and_parameters(str(name))
    except MiaHubError as error:
        raise PromptError(
            f"A detector is written as NAME or NAME:PARAMETER=VALUE,…, such as curvature:form=exact,draws=8; got {name!r}."
        ) from error
    detector = look_up("detector", given, DETECTORS, PromptError)
    check_parameters(f"detector {given!r}", parameters | spelled, detector.parameters(), PromptError)
    return detector(**parameters | spelled)
