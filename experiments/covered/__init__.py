"""Models that others wrote, one file a package: `NEEDS` names the packages, `MODELS` makes each model as a `Case`.

Nothing heavy is imported before a model is made, so that packages which are not installed can be left out.
"""

PACKAGES = {
    "linen": "flax.linen",
    "nnx_modules": "flax.nnx",
    "equinox_models": "Equinox",
    "diffrax_models": "Diffrax",
    "haiku_models": "Haiku",
    "keras_models": "Keras",
    "hugging_face": "Hugging Face Flax",
    "torchvision_models": "torchvision through torchax",
    "timm_models": "timm through torchax",
    "flow_models": "FlowJAX, NumPyro, Distrax",
    "jraph_models": "Jraph",
    "e3nn_models": "e3nn",
    "penzai_models": "Penzai",
    "jaxkan_models": "jaxKAN",
    "pdequinox_models": "PDEquinox",
    "equimo_models": "Equimo",
    "ott_models": "OTT-JAX",
    "research": "research code",
}
