#!/bin/sh
# safetensors.torch.save_model keeps of tied tensors the name that comes first in the alphabet, not first in the model.
#
# safetensors 0.8.0, torch 2.13.0. A guess would be that the file holds the name that `named_parameters()` gives, which is
# that of the layer made first: of an embedding "wte" tied to an output layer "lm_head" the file holds lm_head.weight
# alone, and what reads names off the model looks for wte.weight in vain. Metadata say which name was left out for which.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 safetensors==0.8.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import safetensors
import torch
from safetensors.torch import load_file, save_model


def kept(first, second):
    model = torch.nn.ModuleDict({first: torch.nn.Embedding(5, 3), second: torch.nn.Linear(3, 5, bias=False)})
    model[second].weight = model[first].weight
    save_model(model, "tied.safetensors")
    with safetensors.safe_open("tied.safetensors", "pt") as file:
        return [name for name, _ in model.named_parameters()], list(load_file("tied.safetensors")), file.metadata()


for pair in (("wte", "lm_head"), ("embed", "head")):
    named, written, metadata = kept(*pair)
    print(f"safetensors {safetensors.__version__}: named_parameters {named}, written {written}, metadata {metadata}")
    assert named == [f"{pair[0]}.weight"] and written == [f"{min(pair)}.weight"]
    assert metadata == {f"{max(pair)}.weight": f"{min(pair)}.weight"}
PYTHON
