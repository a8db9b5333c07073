"""Names of methods joined by `+`, and their options, read and checked before anything runs."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dwalign.matching.options import check_options
from dwalign.symmetry import Alignment

GIVEN = {"spec", "a", "b", "key"}


class Stage(NamedTuple):
    """One method of several that start from one another, and its options."""

    name: str
    run: Callable[..., Alignment]
    options: dict[str, Any]


def read_stages(
    methods: Mapping[str, Callable[..., Alignment]], method: str, options: Mapping[str, Any]
) -> list[Stage]:
    """The stages that `method` names, in their order.

    Args:
      methods: name to `(spec, a, b, *, key, ...) -> Alignment`; those that take `start` may follow another.
      method: one of these names or several joined by `+`.
      options: of the method, or with `+` a dictionary for each name.

    Raises:
      ValueError: a name or an option that does not exist, an option without default that is missing, a value that an
        option cannot have, or a method that cannot start from another one but follows it.
    """
    if not isinstance(method, str):
        known = [name for name, run in methods.items() if run is method]
        found = f"{getattr(method, '__name__', type(method).__name__)}; pass {known[0]!r}" if known else repr(method)
        raise ValueError(f"align: method must be a name, one of {sorted(methods)}, got {found}")
    names = method.split("+")
    if unknown := [name for name in names if name not in methods]:
        raise ValueError(f"align: method must be one of {sorted(methods)}, or several joined by +, got {unknown[0]!r}")
    chosen = {names[0]: options} if len(names) == 1 else options
    for name, value in chosen.items():
        if name not in names or not isinstance(value, Mapping):
            form = ", ".join(f"{stage}=dict(...)" for stage in dict.fromkeys(names))
            raise ValueError(
                f"align: the options of {method!r} must be a dictionary for each of its methods ({form}), "
                f"got {name} = {type(value).__name__}"
            )
    stages = [Stage(name, methods[name], dict(chosen.get(name, {}))) for name in names]
    for place, stage in enumerate(stages):
        _check_stage(methods, stage, later=place > 0)
    return stages


def _check_stage(methods, stage: Stage, *, later: bool) -> None:
    parameters = _parameters(stage.run)
    if later and "start" not in parameters:
        able = sorted(name for name, run in methods.items() if "start" in _parameters(run))
        raise ValueError(f"align: {stage.name} cannot start from another method and must come first; {able} can")
    # a later stage starts from the one before it
    free = {name: p for name, p in parameters.items() if not (later and name == "start")}
    if unknown := [option for option in stage.options if option not in free]:
        raise ValueError(f"align: {stage.name} takes the options {sorted(free)}, got {unknown[0]!r}")
    needed = [name for name, p in free.items() if p.default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in stage.options]:
        raise ValueError(f"align: {stage.name} needs the options {needed}, but got no {missing[0]!r}")
    check_options(stage.name, **stage.options)


def _parameters(run) -> dict[str, inspect.Parameter]:
    # what functools.partial fixes is no option any more
    fixed = GIVEN | set(getattr(run, "keywords", {}))
    return {name: p for name, p in inspect.signature(run).parameters.items() if name not in fixed}
