#!/bin/sh
# Through torchax, batch normalisation in training leaves its running statistics as they were, and counts the batch.
#
# torchax 0.0.14.dev20261026, torch 2.13.0. In torch a batch in training moves running_mean and running_var by the
# momentum and adds one to num_batches_tracked. Under torchax the counter moves and the statistics do not, without a
# word: what is renewed on data that way keeps the statistics that it had.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 torchax==0.0.14.dev20261026 jax==0.10.2 flax==0.12.8 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
import torchax

x = torch.from_numpy(np.random.default_rng(0).normal(5, 1, (8, 3)).astype(np.float32))
plain = torch.nn.BatchNorm1d(3).train()
plain(x)
with torchax.default_env():
    other = torch.nn.BatchNorm1d(3).to("jax").train()
    other(x.to("jax"))
    mean, count = other.running_mean.jax().tolist(), int(other.num_batches_tracked.jax())
print(f"torch {torch.__version__}: mean {plain.running_mean.tolist()}, batches {int(plain.num_batches_tracked)}")
print(f"torchax {torchax.__version__}: mean {mean}, batches {count}")
assert all(value > 0.3 for value in plain.running_mean.tolist()) and int(plain.num_batches_tracked) == 1
assert mean == [0.0, 0.0, 0.0], "the running mean was expected to stay"
assert count == 1, "the counter was expected to move"
PYTHON
