"""Neural differential equations as the documentation of Diffrax has them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covered.case import Case, opened, vectors

NEEDS = ("equinox", "diffrax")


def solved(make: Callable[..., Any], *inputs: Any) -> Callable[[], Case]:
    """`make(eqx, diffrax, keys)` gives the parts of a module, and the function `(parts, *example)` that calls them."""

    def build() -> Case:
        import diffrax
        import equinox as eqx

        built, run = make(eqx, diffrax, iter(jax.random.split(jax.random.key(0), 8)))

        class Solved(eqx.Module):
            parts: Any

            def __call__(self, *example):
                return run(self.parts, *example)

        return opened(Solved(built), *inputs)

    return build


def ordinary(eqx: Any, diffrax: Any, keys: Any) -> Any:
    parts = [
        eqx.nn.Linear(3, 9, key=next(keys)),
        eqx.nn.MLP(9, 9, 8, 2, activation=jnp.tanh, key=next(keys)),
        eqx.nn.Linear(9, 2, key=next(keys)),
    ]

    def run(parts, x):
        start, field, read = parts
        term, steps = diffrax.ODETerm(lambda t, y, args: field(y)), diffrax.PIDController(rtol=1e-3, atol=1e-6)
        times = diffrax.SaveAt(ts=jnp.linspace(0, 1, 4))
        found = diffrax.diffeqsolve(term, diffrax.Tsit5(), 0, 1, 0.1, start(x), saveat=times, stepsize_controller=steps)
        return jax.vmap(read)(found.ys)

    return parts, run


def controlled(eqx: Any, diffrax: Any, keys: Any) -> Any:
    field = eqx.nn.MLP(9, 27, 8, 1, activation=jax.nn.softplus, final_activation=jnp.tanh, key=next(keys))
    parts = [eqx.nn.MLP(3, 9, 8, 1, key=next(keys)), field, eqx.nn.Linear(9, 2, key=next(keys))]

    def run(parts, times, series):
        start, field, read = parts
        path = diffrax.CubicInterpolation(times, diffrax.backward_hermite_coefficients(times, series))
        term = diffrax.ControlTerm(lambda t, y, args: field(y).reshape(9, 3), path).to_ode()
        first, last = times[0], times[-1]
        found = diffrax.diffeqsolve(term, diffrax.Tsit5(), first, last, 0.1, start(path.evaluate(first)))
        return read(found.ys[-1])

    return parts, run


def stochastic(eqx: Any, diffrax: Any, keys: Any) -> Any:
    sizes = ((9, 9), (9, 27))
    drift, noise = (eqx.nn.MLP(*size, 8, 1, key=next(keys)) for size in sizes)
    parts = [eqx.nn.Linear(3, 9, key=next(keys)), drift, noise, eqx.nn.Linear(9, 2, key=next(keys))]

    def run(parts, x):
        start, drift, noise, read = parts
        motion = diffrax.VirtualBrownianTree(0.0, 1.0, tol=0.1, shape=(3,), key=jax.random.key(1))
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: drift(y)),
            diffrax.ControlTerm(lambda t, y, args: noise(y).reshape(9, 3), motion),
        )
        return read(diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, 1.0, 0.25, start(x)).ys[-1])

    return parts, run


TIMES = np.tile(np.linspace(0, 1, 5, dtype=np.float32), (3, 1))
MODELS: dict[str, Callable[[], Case]] = {
    "neural ODE": solved(ordinary, vectors(3, 3)),
    "neural CDE": solved(controlled, TIMES, vectors(3, 5, 3)),
    "neural SDE": solved(stochastic, vectors(3, 3)),
}
