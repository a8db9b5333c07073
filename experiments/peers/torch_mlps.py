"""MLPs of torch from the arrays that bench_peers.py writes, and back."""

from collections.abc import Mapping

import numpy as np
import torch


def read_mlp(given: Mapping[str, np.ndarray], pair: int, side: str) -> torch.nn.Sequential:
    """One side, "a" or "b", of a pair."""
    parts: list[torch.nn.Module] = []
    for k in range(int(given["layers"])):
        kernel, bias = (given[f"{pair}/{side}/{k}/{name}"] for name in ("kernel", "bias"))
        linear = torch.nn.Linear(*kernel.shape)
        linear.weight.data, linear.bias.data = torch.tensor(kernel.T.copy()), torch.tensor(bias)
        parts += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def arrays_of(mlp: torch.nn.Sequential, pair: int) -> dict[str, np.ndarray]:
    """Its kernels `[inputs, outputs]` and biases, by the names that bench_peers.py reads."""
    found = {}
    for k, linear in enumerate(mlp[::2]):
        found[f"{pair}/{k}/kernel"] = linear.weight.detach().numpy().T
        found[f"{pair}/{k}/bias"] = linear.bias.detach().numpy()
    return found
