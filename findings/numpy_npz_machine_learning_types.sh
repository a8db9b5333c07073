#!/bin/sh
# np.savez loses bfloat16 and 8-bit floats without a word, each in its own way; one of them makes a file nobody can read.
#
# numpy 2.4.6, ml_dtypes 0.6.0. bfloat16 comes back as two raw bytes (|V2), float8_e4m3fn as one (|V1): their bits are
# there, their type is not. float8_e5m2 is written under a description that np.load refuses.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import io

import ml_dtypes
import numpy as np

found = {}
for kind in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
    file = io.BytesIO()
    np.savez(file, w=np.ones(2, getattr(ml_dtypes, kind)))
    file.seek(0)
    try:
        found[kind] = str(np.load(file)["w"].dtype)
    except ValueError as error:
        found[kind] = type(error).__name__
print(f"numpy {np.__version__}, ml_dtypes {ml_dtypes.__version__}: {found}")
assert found == {"bfloat16": "|V2", "float8_e4m3fn": "|V1", "float8_e5m2": "ValueError"}
PYTHON
