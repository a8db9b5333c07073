"""Weight matching by rebasin, in an environment of its own: `python rebasin_matching.py PAIRS.npz FOUND.npz`.

    python -m venv ENV && ENV/bin/pip install rebasin==0.0.47

As bench_peers.py calls it. Its tracing of the two modules is not timed.
"""

import sys
import time

import numpy as np
import torch
from rebasin import PermutationCoordinateDescent
from torch_mlps import arrays_of, read_mlp


def main(pairs: str, found: str) -> None:
    """Seconds of every pair, and the second network of each as it is aligned."""
    given, kept = np.load(pairs), {}
    for pair in range(int(given["pairs"])):
        a, b = (read_mlp(given, pair, side) for side in "ab")
        matching = PermutationCoordinateDescent(a, b, torch.ones(1, a[0].in_features))
        begin = time.process_time()
        matching.rebasin()
        kept |= {f"{pair}/seconds": np.asarray(time.process_time() - begin), **arrays_of(b, pair)}
    np.savez(found, **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
