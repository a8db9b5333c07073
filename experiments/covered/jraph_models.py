"""Graph networks of Jraph with layers of Haiku, on one graph that all examples share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covered.case import Case, vectors

NEEDS = ("jraph", "dm-haiku")
SENDERS, RECEIVERS = np.array([0, 1, 2, 3, 4, 0, 2, 1]), np.array([1, 2, 3, 4, 0, 2, 4, 3])


def model(forward: Callable[..., Any]) -> Callable[[], Case]:
    """`forward(hk, jraph, graph)` is what Haiku transforms, for one example."""

    def build() -> Case:
        import haiku as hk
        import jraph

        def run(nodes, edges, whole):
            graph = jraph.GraphsTuple(
                nodes=nodes, edges=edges, globals=whole[None], senders=jnp.asarray(SENDERS),
                receivers=jnp.asarray(RECEIVERS), n_node=jnp.array([5]), n_edge=jnp.array([8]),
            )  # fmt: skip
            return forward(hk, jraph, graph)

        made: Any = hk.without_apply_rng(hk.transform(run))
        inputs = vectors(2, 5, 3), vectors(2, 8, 2), vectors(2, 2)
        params = jax.eval_shape(made.init, jax.random.key(0), *(one[0] for one in inputs))
        return Case(jax.vmap(made.apply, (None, 0, 0, 0)), params, inputs)

    return build


def messages(hk: Any, jraph: Any, graph: Any) -> Any:
    update = lambda size: jraph.concatenated_args(hk.nets.MLP([8, size]))
    for _ in range(2):
        graph = jraph.GraphNetwork(update(7), update(6), update(5))(graph)
    return hk.Linear(2)(graph.globals), hk.Linear(2)(graph.nodes)


def convolution(hk: Any, jraph: Any, graph: Any) -> Any:
    for _ in range(2):
        layer = lambda nodes: jax.nn.relu(hk.Linear(8)(nodes))
        graph = jraph.GraphConvolution(layer, add_self_edges=True)(graph._replace(edges=None))
    return hk.Linear(2)(graph.nodes)


def attention(hk: Any, jraph: Any, graph: Any) -> Any:
    logits = lambda one, other, _: jax.nn.leaky_relu(hk.Linear(1)(jnp.concatenate([one, other], -1)))
    for _ in range(2):
        graph = jraph.GAT(lambda nodes: hk.Linear(8)(nodes), logits, jax.nn.elu)(graph)
    return hk.Linear(2)(graph.nodes)


MODELS: dict[str, Callable[[], Case]] = {
    "GraphNetwork": model(messages),
    "GraphConvolution": model(convolution),
    "GAT": model(attention),
}
