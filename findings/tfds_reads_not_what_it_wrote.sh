#!/usr/bin/env bash
# tensorflow-datasets 4.9.9 with protobuf 7.36.0 (its requirements ask for 3.20 or later, so pip puts them together):
# a data set is written whole, without a word, and then cannot be opened. The description of its features is read through
# `FieldDescriptor.label`, which protobuf no longer has. With protobuf 6.33.0 the same folder opens and reads back.
# A guess would be that what has been written and closed without an error can be read by the same process.
# Who prepares data on a machine learns of it on the next one; 4.9.10 reads both. Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
install() { "$home/env/bin/pip" install --quiet --disable-pip-version-check "$@" 2>/dev/null; }
install tensorflow-datasets==4.9.9 protobuf==7.36.0 array-record==0.8.3 numpy==2.4.6 importlib-resources==6.5.2
cd "$home"
cat > trial.py <<'PY'
import sys

import google.protobuf
import numpy as np
import tensorflow_datasets as tfds


class Digits(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"x": tfds.features.Tensor(shape=(2,), dtype=np.float32)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for k in range(3):
            yield k, {"x": np.full(2, k, np.float32)}


if sys.argv[1] == "write":
    Digits(data_dir="data", file_format="array_record").download_and_prepare()
    print(f"protobuf {google.protobuf.__version__}: written")
else:
    try:
        found = tfds.builder_from_directory("data/digits/1.0.0").as_data_source(split="train")
        print(f"protobuf {google.protobuf.__version__}: {sorted(float(one['x'][0]) for one in found)}")
    except Exception as error:
        print(f"protobuf {google.protobuf.__version__}: {type(error).__name__}: {error}")
PY
run() { "$home/env/bin/python" -W ignore trial.py "$1" 2>/dev/null | tail -n 1; }
run write
newest=$(run read)
install protobuf==6.33.0
older=$(run read)
printf '%s\n' "$newest" "$older"
[[ "$newest" == *"AttributeError"*"label"* ]] || { echo "with protobuf 7 it reads now, or fails otherwise"; exit 1; }
[[ "$older" == *"[0.0, 1.0, 2.0]" ]] || { echo "with protobuf 6 the folder does not read back now"; exit 1; }
echo "as described: written without a word, and not to be read until protobuf is older"
