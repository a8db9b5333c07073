"""Weight matching by git-re-basin, in an environment of its own: `python git_re_basin_matching.py PAIRS.npz FOUND.npz`.

    git clone https://github.com/samuela/git-re-basin
    python -m venv ENV && ENV/bin/pip install jax==0.4.30 jaxlib==0.4.30 flax==0.8.5 "numpy<2" "scipy<1.14"

As bench_peers.py calls it, with `src` of the checkout on PYTHONPATH. Applying the permutation is not timed; a pair that
is thrown away comes first, for which JAX compiles its operations.
"""

import sys
import time

import jax
import numpy as np
from weight_matching import apply_permutation, mlp_permutation_spec, weight_matching


def main(pairs: str, found: str) -> None:
    """Seconds of every pair, and the second network of each as it is aligned."""
    given, kept = np.load(pairs), {}
    layers = int(given["layers"])
    spec = mlp_permutation_spec(layers - 1)
    for pair in (0, *range(int(given["pairs"]))):
        a, b = (
            {
                f"Dense_{k}/{name}": jax.numpy.asarray(given[f"{pair}/{side}/{k}/{name}"])
                for k in range(layers)
                for name in ("kernel", "bias")
            }
            for side in "ab"
        )
        begin = time.process_time()
        perms = jax.block_until_ready(weight_matching(jax.random.PRNGKey(0), spec, a, b, silent=True))
        kept[f"{pair}/seconds"] = time.process_time() - begin
        for name, value in apply_permutation(spec, perms, b).items():
            kept[f"{pair}/{name.removeprefix('Dense_')}"] = value
    np.savez(found, **{name: np.asarray(value) for name, value in kept.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
