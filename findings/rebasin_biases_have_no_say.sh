#!/bin/sh
# rebasin's PermutationCoordinateDescent moves biases and the gains of norms with their units, but matches none by them.
#
# rebasin 0.0.47, torch 2.13.0. The products of vectors are taken whole: one number, which is added to the score of every
# pairing of units and changes no assignment. Units that differ by their biases alone, or by what a norm behind them does,
# are left as they are though the same units stand in the other network, in another order; by a column of their kernel
# that says the same they are found. Weight matching as it was published counts biases as it counts kernels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rebasin==0.0.47 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import copy

import torch
from rebasin import PermutationCoordinateDescent
from torch import nn

UNITS, ORDER = 6, [3, 0, 5, 1, 4, 2]
OWN = torch.linspace(-1, 1, UNITS)


def network(where):
    """All units are alike but for one number of each."""
    made = nn.Sequential(nn.Linear(4, UNITS), nn.LayerNorm(UNITS), nn.ReLU(), nn.Linear(UNITS, 3))
    with torch.no_grad():
        made[0].weight[:] = 0.5
        made[0].bias[:] = 0.1
        made[3].weight[:] = 0.3
        {"kernel": made[0].weight[:, 0], "bias": made[0].bias, "gain of the norm": made[1].weight}[where][:] = OWN
    return made


def reordered(made):
    """The same function, its units in another order."""
    other = copy.deepcopy(made)
    with torch.no_grad():
        for layer in other[:2]:
            layer.weight[:], layer.bias[:] = layer.weight[ORDER].clone(), layer.bias[ORDER].clone()
        other[3].weight[:] = other[3].weight[:, ORDER].clone()
    return other


for where, found in {"kernel": True, "bias": False, "gain of the norm": False}.items():
    a = network(where)
    b = reordered(a)
    PermutationCoordinateDescent(a, b, torch.randn(2, 4)).rebasin()
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    apart = max(float((x - y).detach().abs().max()) for x, y in pairs)
    print(f"units that differ in the {where}: parameters are apart by {apart:.2f} afterwards")
    assert (apart < 1e-6) == found, where
PYTHON
