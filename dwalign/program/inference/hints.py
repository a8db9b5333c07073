"""What users of other libraries most likely meant: the call that makes `apply(params, *inputs)` of their model."""

import inspect
from typing import Any

import jax

HINTS = {
    "equinox": """an Equinox module holds functions and settings beside its arrays: take
        `params, static = eqx.partition(model, eqx.is_array)` and let apply be
        `lambda params, x: jax.vmap(eqx.combine(params, static))(x)`""",
    "flax.nnx": """of an nnx module take, after `model.eval()`,
        `graphdef, params, rest = nnx.split(model, (nnx.Param, nnx.BatchStat), ...)`, so that random keys and counters
        stay in `rest`, and let apply be `lambda params, x: nnx.merge(graphdef, params, rest)(x)`""",
    "haiku": """the apply of `hk.transform` takes (params, rng, x): let apply be `lambda params, x: f.apply(params,
        None, x)`; that of `hk.transform_with_state` takes (params, state, rng, x) and returns (outputs, state): with
        `{"params": params, "state": state}` let apply be `lambda p, x: f.apply(p["params"], p["state"], None, x)[0]`
        """,
    "flax.linen": "a linen module holds no variables: let apply be `module.apply`, of the variables and the inputs",
    "torch": "`dwalign.from_model(module, *inputs)` makes a network of a module of torch",
    "keras": "`dwalign.from_model(model, *inputs)` makes a network of a model of Keras",
}


def hint(*things: Any) -> str:
    """The advice for the first of the libraries that made a part of these trees or functions, "" for others."""
    found: list[str] = []

    def look(node) -> bool:
        found.extend(filter(None, [_library(node)]))
        return bool(found)

    for thing in things:
        jax.tree.leaves(thing, is_leaf=look)
    return f"; {' '.join(HINTS[found[0]].split())}" if found else ""


def _library(node: Any) -> str | None:
    homes = [kind.__module__ for kind in type(node).__mro__]
    # a method of a module is a function like any
    if callable(node) and not inspect.ismethod(node):
        homes.append(getattr(node, "__module__", None) or "")
    for home in homes:
        for library in HINTS:
            if home == library or home.startswith(f"{library}."):
                return library
    return None
