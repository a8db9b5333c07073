#!/bin/sh
# rebasin's PermutationCoordinateDescent changes what a small CNN with a flattened head computes, and attention too.
#
# rebasin 0.0.47, torch 2.13.0. Its documentation says that the permuted model must give the same output as before, that
# where this cannot be nothing is permuted, and that CNNs usually work very well. An MLP and a residual network keep
# their function to rounding. Without a warning it is another function afterwards where convolutions are flattened into
# a linear layer, where heads are split by a reshape, where a gate splits the units in two, and where one layer is
# called three times in a row.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rebasin==0.0.47 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import torch
from rebasin import PermutationCoordinateDescent
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.up, self.down, self.head = nn.Linear(6, 8), nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(x + self.down(torch.relu(self.up(x)))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        x = self.stem(x)
        split = lambda y: y.reshape(*y.shape[:2], 2, 4).transpose(1, 2)
        heads = nn.functional.scaled_dot_product_attention(*(split(f(x)) for f in (self.query, self.key, self.value)))
        return self.head(x + self.out(heads.transpose(1, 2).reshape(x.shape)))


class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        for _ in range(3):
            x = torch.relu(self.middle(x))
        return self.last(x)


relu, conv = nn.ReLU, lambda n: nn.Conv2d(n, 8, 3, padding=1)
KEPT = {
    "MLP": (lambda: nn.Sequential(nn.Linear(6, 8), relu(), nn.Linear(8, 8), relu(), nn.Linear(8, 3)), (5, 6)),
    "residual network": (Residual, (5, 6)),
}
CHANGED = {
    "CNN, flattened": (
        lambda: nn.Sequential(conv(3), nn.BatchNorm2d(8), relu(), conv(8), relu(), nn.Flatten(), nn.Linear(128, 5)),
        (2, 3, 4, 4),
    ),
    "attention, two heads": (Attention, (2, 4, 6)),
    "gated linear unit": (lambda: nn.Sequential(nn.Linear(6, 16), nn.GLU(), nn.Linear(8, 3)), (5, 6)),
    "a layer called three times": (Again, (5, 6)),
}
torch.manual_seed(0)
for name, (make, shape) in {**KEPT, **CHANGED}.items():
    a, b = (make().eval() for _ in range(2))
    inputs = torch.randn(shape)
    with torch.no_grad(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        before = b(inputs)
        PermutationCoordinateDescent(a, b, inputs).rebasin()
        change = float((b(inputs) - before).abs().max() / before.abs().max())
    print(f"{name}: outputs change by {change:.1e} of the largest, {len(warned)} warnings")
    assert change < 1e-5 if name in KEPT else change > 0.05, name
PYTHON
