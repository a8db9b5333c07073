#!/bin/sh
# Module.to("meta") unties tied parameters; .double(), .half() and .to(dtype) keep them tied.
#
# torch 2.13.0. A skeleton without values, made to see what a model holds, has one parameter more than the model where an
# embedding is tied to an output layer, and what is traced from it treats the two as independent.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch


def tied():
    module = torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)])
    module[1].weight = module[0].weight
    return module


counts = {name: len(list(change(tied()).parameters())) for name, change in {
    "as made": lambda module: module,
    "double": lambda module: module.double(),
    "bfloat16": lambda module: module.to(torch.bfloat16),
    "meta": lambda module: module.to("meta"),
}.items()}
print(f"torch {torch.__version__}: parameters {counts}")
assert counts == {"as made": 1, "double": 1, "bfloat16": 1, "meta": 2}
PYTHON
