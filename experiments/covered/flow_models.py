"""Normalising flows of FlowJAX, NumPyro and Distrax: densities of networks that couple or mask."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from covered.case import Case, opened, vectors

NEEDS = ("flowjax", "numpyro", "distrax", "dm-haiku")
POINTS = vectors(5, 4)


def flow(name: str, **options: Any) -> Callable[[], Case]:
    """The log density of points under a flow of FlowJAX, given three numbers where `cond_dim` is."""

    def build() -> Case:
        import equinox as eqx
        from flowjax import distributions, flows

        class Density(eqx.Module):
            flow: Any

            def __call__(self, *point):
                return self.flow.log_prob(*point)

        base = distributions.Normal(jnp.zeros(4))
        made = getattr(flows, name)(jax.random.key(0), base_dist=base, flow_layers=2, **options)
        return opened(Density(made), POINTS, *([vectors(5, 3)] if "cond_dim" in options else []))

    return build


def autoregressive() -> Case:
    """Masks are constants; units of one degree lie side by side."""
    from numpyro.nn import AutoregressiveNN

    init, apply = AutoregressiveNN(4, [12, 10])
    return Case(apply, jax.eval_shape(lambda key: init(key, (4,))[1], jax.random.PRNGKey(0)), (POINTS,))


def splines() -> Case:
    """Couplings of Distrax with conditioners of Haiku."""
    import distrax
    import haiku as hk

    def density(points):
        layers, mask = [], jnp.arange(4) % 2 == 0
        for _ in range(2):
            net = hk.Sequential([hk.nets.MLP([16, 12], activate_final=True), hk.Linear(4 * 13), hk.Reshape((4, 13))])
            spline = lambda numbers: distrax.RationalQuadraticSpline(numbers, -3.0, 3.0)
            layers.append(distrax.MaskedCoupling(mask=mask, bijector=spline, conditioner=net))
            mask = ~mask
        base = distrax.MultivariateNormalDiag(jnp.zeros(4), jnp.ones(4))
        return distrax.Transformed(base, distrax.Inverse(distrax.Chain(layers))).log_prob(points)

    made: Any = hk.without_apply_rng(hk.transform(density))
    return Case(made.apply, jax.eval_shape(made.init, jax.random.key(0), POINTS), (POINTS,))


MODELS: dict[str, Callable[[], Case]] = {
    "FlowJAX: coupling": flow("coupling_flow", nn_width=12, nn_depth=2),
    "FlowJAX: coupling, conditional": flow("coupling_flow", nn_width=12, nn_depth=1, cond_dim=3),
    "FlowJAX: masked autoregressive": flow("masked_autoregressive_flow", nn_width=15, nn_depth=2),
    "NumPyro: AutoregressiveNN": autoregressive,
    "Distrax: coupling of splines": splines,
}
