"""Keyword options that several public functions share, declared once and still shown in full by ``help()``.

The options are declared as a TypedDict, each with its default::

    class QueryOptions(TypedDict, total=False):
        batch_size: Annotated[int | None, Default(None)]
        seed: Annotated[int, Default(0)]

    @with_options
    def check(image: Any, *, captions: str | None = None, **options: Unpack[QueryOptions]) -> Answer: ...

Type checkers, ``inspect.signature`` and ``help()`` see ``batch_size`` and ``seed`` as keyword parameters of ``check``; its body finds both
in ``options``, whether or not the caller gave them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

Function = TypeVar("Function", bound=Callable[..., Any])


class Default(NamedTuple):
    """The default of an option."""

    value: Any


def option_parameters(options: type) -> list[inspect.Parameter]:
    """Return the keyword-only parameters that a TypedDict of options stands for.

    Raises:
        TypeError: if an option has no `Default`.
    """
    return [_parameter(options, name, hint) for name, hint in get_type_hints(options, include_extras=True).items()]


def _parameter(options: type, name: str, hint: Any) -> inspect.Parameter:
    if get_origin(hint) is Annotated:
        annotation, *metadata = get_args(hint)
        for default in metadata:
            if isinstance(default, Default):
                return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default.value, annotation=annotation)
    raise TypeError(f"The option {name!r} of {options.__name__} needs a default: Annotated[type, Default(value)].")


def _unpacked(function: Callable[..., Any], last: inspect.Parameter) -> type | None:
    """Return the TypedDict of ``**options: Unpack[Options]``, or None. No other annotation is evaluated."""
    if last.annotation is inspect.Parameter.empty:
        return None
    hints = get_type_hints(SimpleNamespace(__annotations__={last.name: last.annotation}), function.__globals__)
    unpacked = get_args(hints[last.name])
    return unpacked[0] if unpacked and is_typeddict(unpacked[0]) else None


def with_options(function: Function) -> Function:
    """Give a function that takes ``**options: Unpack[Options]`` one keyword parameter for each option.

    Raises:
        TypeError: if the function takes no such options.
    """
    signature = inspect.signature(function)
    own = list(signature.parameters.values())
    options = _unpacked(function, own.pop()) if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD else None
    if options is None:
        raise TypeError(f"{function.__qualname__} must end in **options: Unpack[…], with a TypedDict.")
    full = signature.replace(parameters=[*own, *option_parameters(options)])

    @functools.wraps(function)
    def called(*args: Any, **keywords: Any) -> Any:
        try:
            bound = full.bind(*args, **keywords)
        except TypeError as error:
            raise TypeError(f"{function.__name__}() {error}") from None
        bound.apply_defaults()
        return function(*bound.args, **bound.kwargs)

    called.__signature__ = full  # type: ignore[attr-defined]  # read by inspect.signature
    return called  # type: ignore[return-value]  # same parameters, spelled out
