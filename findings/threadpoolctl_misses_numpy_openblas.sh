#!/usr/bin/env bash
# threadpoolctl 3.4.0 beside numpy 2.4.6 and scipy 1.17.1 from PyPI: `threadpool_limits(1, user_api="blas")` is what holds
# BLAS to one thread where pairs or batches go side by side in threads. A guess would be that it holds, or says that it
# cannot. It finds no BLAS at all and says nothing: the OpenBLAS in these wheels exports its functions with the prefix
# scipy_, and keeps all its threads inside of the limit. 3.5.0 knows the prefix; scikit-learn 1.7.2 asks for 3.1.0 or
# later, 1.8.0 for 3.2.0, so that an environment that is pinned may hold one that does not.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
install() { "$home/env/bin/pip" install --quiet --disable-pip-version-check "$@" 2>/dev/null; }
install numpy==2.4.6 scipy==1.17.1
cat > "$home/held.py" <<'PY'
import ctypes
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.linalg
import threadpoolctl

(library,) = (Path(np.__file__).parent.parent / "numpy.libs").glob("libscipy_openblas64_*.so")
blas = ctypes.CDLL(str(library))
blas.scipy_openblas_set_num_threads64_(2)
threads = blas.scipy_openblas_get_num_threads64_
found = [one["internal_api"] for one in threadpoolctl.threadpool_info()]
with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
    inside = threads()
print(f"threadpoolctl {version('threadpoolctl')}, numpy {np.__version__}: finds {found}, threads inside of the limit {inside}")
assert (found, inside) == ((["openblas"] * 2, 1) if sys.argv[1] == "holds" else ([], 2))
PY
cd "$home"
install threadpoolctl==3.4.0
"$home/env/bin/python" held.py misses
install threadpoolctl==3.5.0
"$home/env/bin/python" held.py holds
