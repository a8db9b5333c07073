#!/bin/sh
# from_pretrained reads another network than the index of its shards describes, without a word, in two ways.
#
# transformers 5.24.0, torch 2.13.0, safetensors 0.8.0. (1) save_pretrained in shards, into a folder where a smaller
# network was saved, leaves the old model.safetensors beside the new index, and from_pretrained gives the old network.
# (2) Of the index only the names of the files count: where a tensor is written anew into a file of its own, and the
# index says so, the old one in the old shard is loaded, for files are read in the order of their names and the last wins.
# A guess would be that what was saved last is loaded, and that the index tells where each tensor lies.
# Who merges into a folder, or replaces some tensors of a large network, evaluates the network from before.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

warnings.simplefilter("error")
transformers.utils.logging.disable_progress_bar()
sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4, "vocab_size": 20}
config = transformers.LlamaConfig(num_hidden_layers=2, tie_word_embeddings=False, **sizes)
same = lambda one, two: all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
load = lambda folder: transformers.LlamaForCausalLM.from_pretrained(folder)
print(f"transformers {transformers.__version__}, torch {torch.__version__}")

old, new = transformers.LlamaForCausalLM(config), transformers.LlamaForCausalLM(config)
assert not same(old, new)
old.save_pretrained("twice")
new.save_pretrained("twice", max_shard_size="8KB")
shards = set(json.loads(Path("twice/model.safetensors.index.json").read_text())["weight_map"].values())
held = {name: value for shard in shards for name, value in load_file(f"twice/{shard}").items()}
assert len(shards) > 1 and all(torch.equal(value, new.state_dict()[name]) for name, value in held.items())
back = load("twice")
print(f"saved whole, then another in {len(shards)} shards: loads the old one {same(back, old)}, the new one {same(back, new)}")
assert same(back, old) and not same(back, new), "what was saved last is loaded now"

new.save_pretrained("patched", max_shard_size="8KB")
assert same(load("patched"), new)
name, index = "model.layers.0.mlp.up_proj.weight", Path("patched/model.safetensors.index.json")
content = json.loads(index.read_text())
shard = content["weight_map"][name]
save_file({name: old.state_dict()[name]}, "patched/merged.safetensors", metadata={"format": "pt"})
content["weight_map"][name] = "merged.safetensors"
index.write_text(json.dumps(content))
loaded = load("patched").state_dict()[name]
follows = torch.equal(loaded, old.state_dict()[name])
stale = torch.equal(loaded, new.state_dict()[name])
print(f"the index puts {name} into merged.safetensors: it is read there {follows}, in {shard} {stale}")
assert stale and not follows, "the index is followed now"
PYTHON
