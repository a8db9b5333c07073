"""Functions that Haiku transformed: params alone, or `{"params": ..., "state": ...}` where they keep state."""

import inspect
from collections.abc import Callable
from typing import Any

from dwalign.extras import load
from dwalign.frontends.models import Opened

PyTree = Any
# the averages of batch normalisation, not those of other modules
AVERAGES = ("mean_ema", "var_ema")


def open_model(model: Any, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    # `hk.without_apply_rng` takes it away
    key_or_none = (None,) if "rng" in inspect.signature(model.apply).parameters else ()
    stateful = type(model).__name__ == "TransformedWithState"

    def init(key):
        # averages appear only where batch normalisation is trained
        with load("haiku").intercept_methods(_train):
            made = model.init(key, *inputs, **call)
        return dict(zip(("params", "state"), made, strict=True)) if stateful else made

    if params is None:
        if key is None:
            raise ValueError(
                "a function that Haiku transformed keeps no params; pass params= (what its init returns) or key= to "
                "initialise them"
            )
        params = init(key)
    elif stateful and isinstance(params, tuple):
        params = dict(zip(("params", "state"), params, strict=True))

    if not stateful:
        return Opened(lambda params, *inputs: model.apply(params, *key_or_none, *inputs, **call), params, init=init)

    def run(both, *inputs):
        return model.apply(both["params"], both["state"], *key_or_none, *inputs, **call)

    def train(both, *inputs):
        with load("haiku").intercept_methods(_renew):
            outputs, state = run(both, *inputs)
        return outputs, {**both, "state": state}

    normalised = any(name.endswith(AVERAGES) for name in params["state"])
    return Opened(lambda both, *inputs: run(both, *inputs)[0], params, train if normalised else None, init)


def into_model(model: Any, params: PyTree) -> PyTree:
    """What `model.apply` takes before the key: the params, or `(params, state)`."""
    return (params["params"], params["state"]) if type(model).__name__ == "TransformedWithState" else params


def _train(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    """Intercepts batch normalisation: as in training, whatever its caller says."""
    if not isinstance(context.module, load("haiku").BatchNorm) or context.method_name != "__call__":
        return call(*args, **kwargs)
    return call(args[0], True, *args[2:], **{name: value for name, value in kwargs.items() if name != "is_training"})


def _renew(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    """Likewise, and its averages become those of its inputs alone."""
    hk = load("haiku")
    called = isinstance(context.module, hk.ExponentialMovingAverage) and context.method_name == "__call__"
    if not called or not context.module.name.endswith(AVERAGES):
        return _train(call, args, kwargs, context)
    # Haiku divides by what its counter says is still missing, and the counter stays
    hk.set_state("hidden", args[0] * (1 - context.module.decay ** hk.get_state("counter")))
    hk.set_state("average", args[0])
    return args[0]
