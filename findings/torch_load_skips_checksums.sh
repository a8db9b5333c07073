#!/bin/sh
# torch.save writes a CRC-32 for every member of its archive; torch.load does not look at it.
#
# torch 2.13.0. Weights in which one bit was flipped, on a disk or on the way, load without a word, mapped or not, while
# Python's zipfile names the damaged member. Who wants to know must compare the sums: the directory of the archive has them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/weights.pt" <<'PYTHON'
import sys
import zipfile

import torch

file, weights = sys.argv[1], torch.arange(64.0)
torch.save({"w": weights}, file)
with zipfile.ZipFile(file) as archive:
    sums = {info.filename: info.CRC for info in archive.infolist() if info.filename.endswith("data/0")}
    intact = archive.testzip()

content = bytearray(open(file, "rb").read())
content[content.index(weights.numpy().tobytes()) + 10] ^= 64
open(file, "wb").write(content)

changed = {mapped: int((torch.load(file, mmap=mapped)["w"] != weights).sum()) for mapped in (False, True)}
with zipfile.ZipFile(file) as archive:
    damaged = archive.testzip()
print(f"torch {torch.__version__}: stored {sums}; numbers that load otherwise {changed}; zipfile names {intact}, then {damaged}")
assert all(sums.values()) and changed == {False: 1, True: 1}
assert intact is None and damaged.endswith("data/0")
PYTHON
