#!/usr/bin/env bash
# lapx 0.9.4 (imports as `lap`), `lapjv`: on a constant cost matrix every assignment is optimal, so a guess would be the
# identity, which scipy returns. lapjv returns [3, 0, 1, 2]. Units of a network that never respond make constant score
# matrices, so a matching moves them although nothing asks for it. A cost matrix with NaN passes through lapjv without a
# word, as some permutation, where scipy raises ValueError.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 lapx==0.9.4 2>/dev/null
cd "$home"
"$home/env/bin/python" - <<'PY'
from importlib.metadata import version

import lap
import numpy as np
from scipy.optimize import linear_sum_assignment

costs = np.ones((4, 4))
scipy_says = linear_sum_assignment(costs)[1].tolist()
lapjv_says = lap.lapjv(costs)[1].tolist()
print(f"lapx {version('lapx')}: constant costs: scipy {scipy_says}, lapjv {lapjv_says}")
assert scipy_says == [0, 1, 2, 3] and sorted(lapjv_says) == [0, 1, 2, 3] and lapjv_says != [0, 1, 2, 3]
costs[1, 2] = np.nan
try:
    linear_sum_assignment(costs)
    raise SystemExit("scipy accepts NaN now")
except ValueError as error:
    print(f"NaN: scipy raises {error}")
passed = lap.lapjv(costs)[1].tolist()
print(f"NaN: lapjv returns {passed}")
assert sorted(passed) == [0, 1, 2, 3], "lapjv minds NaN now"
PY
