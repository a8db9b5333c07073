"""Models of Penzai, whose arrays have named axes; their parameters are unbound, so that they are one tree."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from covered.case import Case, tokens, vectors

NEEDS = ("penzai",)


def mlp() -> Case:
    from penzai import pz
    from penzai.models import simple_mlp

    sizes, key = [5, 12, 9, 3], jax.random.key(0)
    made = simple_mlp.MLP.from_config(name="mlp", init_base_rng=key, feature_sizes=sizes, activation_fn=jax.nn.relu)
    model, params = pz.unbind_params(made, freeze=True)
    run = lambda x: lambda model: model(pz.nx.wrap(x, "batch", "features")).unwrap("batch", "features")
    return Case(lambda params, x: run(x)(pz.bind_variables(model, params)), params, (vectors(4, 5),))


def llama(*, stacked: bool) -> Callable[[], Case]:
    """Of two blocks, with two heads of keys for four of queries."""

    def build() -> Case:
        from penzai import pz
        from penzai.models.transformer.variants import llamalike_common

        config = llamalike_common.LlamalikeTransformerConfig(
            num_kv_heads=2, query_head_multiplier=2, embedding_dim=16, projection_dim=8, mlp_hidden_dim=24,
            num_decoder_blocks=2, vocab_size=23, mlp_variant="swiglu", tie_embedder_and_logits=False,
            use_layer_stack=stacked,
        )  # fmt: skip
        made = llamalike_common.build_llamalike_transformer(config, jax.random.key(0))
        model, params = pz.unbind_params(made, freeze=True)

        def apply(params, numbers):
            places = pz.nx.wrap(jnp.arange(numbers.shape[1]), "seq")
            found = pz.bind_variables(model, params)(pz.nx.wrap(numbers, "batch", "seq"), token_positions=places)
            return found.unwrap("batch", "seq", "vocabulary")

        return Case(apply, params, (tokens(6, 23),))

    return build


MODELS: dict[str, Callable[[], Case]] = {
    "MLP": mlp,
    "Llama": llama(stacked=False),
    "Llama, its layers in a stack": llama(stacked=True),
}
