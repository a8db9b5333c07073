#!/bin/sh
# peft's add_weighted_adapter(combination_type="linear") doubles an adapter that is averaged with itself.
#
# peft 0.21.2, torch 2.13.0, transformers 5.24.0. The factors A and B of the updates are combined, each by the roots of the
# weights, and not the updates B A: half of an adapter and half of the same one make twice its update, and two
# adapters give products of one's A with the other's B. So the result also depends on the order of the inner dimensions,
# which no function shows: with it reversed in one adapter, whose update stays the same to rounding, "linear", "ties",
# "dare_linear" and "magnitude_prune" merge to something else. No warning. A guess would be the weighted sum of the
# updates, which "cat" gives exactly; "svd" gives the same for either order.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    peft==0.21.2 torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import peft
import torch

torch.manual_seed(0)
config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["0"], init_lora_weights=False)
network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
model = peft.get_peft_model(network, config, "first")
for name in ("second", "reversed"):
    model.add_adapter(name, config)
layer = model.base_model.model[0]
with torch.no_grad():
    layer.lora_A["reversed"].weight.copy_(layer.lora_A["second"].weight.flip(0))
    layer.lora_B["reversed"].weight.copy_(layer.lora_B["second"].weight.flip(1))
update = lambda name: layer.get_delta_weight(name).detach()
apart = lambda x, y: float((x - y).norm() / y.norm())


def merged(kind, *adapters):
    torch.manual_seed(0)
    name = " ".join((kind.replace("_", " "), *adapters))
    drops = {} if kind in ("linear", "cat", "svd") else {"density": 0.999}
    model.add_weighted_adapter(list(adapters), [0.5, 0.5], name, combination_type=kind, **drops)
    return update(name)


assert apart(update("reversed"), update("second")) < 1e-5
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    itself = {kind: apart(merged(kind, "first", "first"), update("first")) for kind in ("linear", "cat", "svd")}
    kinds = ("linear", "ties", "dare_linear", "magnitude_prune", "cat", "svd")
    pairs = {kind: [merged(kind, "first", name) for name in ("second", "reversed")] for kind in kinds}
mean = (update("first") + update("second")) / 2
sums = {kind: apart(pairs[kind][0], mean) for kind in ("linear", "cat")}
other = {kind: apart(*pair) for kind, pair in pairs.items()}
doubled = apart(update("linear first first"), 2 * update("first"))
short = lambda found: {kind: f"{value:.2g}" for kind, value in found.items()}
print(f"peft {peft.__version__}: an adapter averaged with itself is off by {short(itself)}; linear is twice it to {doubled:.1g}")
print(f"two adapters, off their mean update by {short(sums)}")
print(f"inner dimensions of one reversed, the result differs by {short(other)}; {len(warned)} warnings")
assert doubled < 1e-5 and itself["cat"] < 1e-5 and itself["svd"] < 1e-5
assert sums["linear"] > 0.3 and sums["cat"] < 1e-5
assert all(value < 1e-4 if kind in ("cat", "svd") else value > 0.3 for kind, value in other.items())
assert not warned
PYTHON
