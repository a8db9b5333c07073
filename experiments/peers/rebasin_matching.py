"""Weight matching by rebasin, in an environment of its own: `python rebasin_matching.py PAIRS.npz FOUND.npz`.

    python -m venv ENV && ENV/bin/pip install rebasin==0.0.47

As bench_peers.py calls it. Its tracing of the two modules is not timed, nor is the copy of the weights.
"""

import sys
import time

import numpy as np
import torch
from rebasin import PermutationCoordinateDescent


def module(layers: list[tuple[np.ndarray, np.ndarray]]) -> torch.nn.Sequential:
    """An MLP of these kernels `[inputs, outputs]` and biases."""
    parts: list[torch.nn.Module] = []
    for kernel, bias in layers:
        linear = torch.nn.Linear(*kernel.shape)
        linear.weight.data, linear.bias.data = torch.tensor(kernel.T.copy()), torch.tensor(bias)
        parts += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def main(pairs: str, found: str) -> None:
    """Seconds of every pair, and the second network of each as it is aligned."""
    given, kept = np.load(pairs), {}
    for pair in range(int(given["pairs"])):
        sides = [
            [
                (given[f"{pair}/{side}/{k}/kernel"], given[f"{pair}/{side}/{k}/bias"])
                for k in range(int(given["layers"]))
            ]
            for side in "ab"
        ]
        a, b = map(module, sides)
        matching = PermutationCoordinateDescent(a, b, torch.ones(1, len(sides[0][0][0])))
        begin = time.perf_counter()
        matching.rebasin()
        kept[f"{pair}/seconds"] = time.perf_counter() - begin
        for k, linear in enumerate(b[::2]):
            kept[f"{pair}/{k}/kernel"], kept[f"{pair}/{k}/bias"] = (
                linear.weight.detach().numpy().T,
                linear.bias.detach(),
            )
    np.savez(found, **{name: np.asarray(value) for name, value in kept.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
