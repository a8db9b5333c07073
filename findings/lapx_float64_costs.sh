#!/usr/bin/env bash
# lapx 0.9.4, `lapjvs`: costs given as float64 are solved in float32 by default (prefer_float32=True), so the assignment that
# comes back need not be the best one of the costs that went in; with prefer_float32=False, and from `lapjv`, it is. A guess
# would be that a solver keeps the precision of its input. Scores of a matching often differ far behind the point.
# Seen: costs of 1 plus some 1e-6: 9.796e-07 above the constant by scipy and lapjv, 1.118e-06 by lapjvs.
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

rng = np.random.default_rng(0)
rng.random((6, 6))
small = 1e-6 * rng.random((6, 6))
costs = 1 + small
total = lambda columns: float(small[np.arange(6), np.asarray(columns)].sum())
best = total(linear_sum_assignment(costs)[1])
found = {
    "lapjv": total(lap.lapjv(costs)[1]),
    "lapjvs": total(lap.lapjvs(costs)[2]),
    "lapjvs, prefer_float32=False": total(lap.lapjvs(costs, prefer_float32=False)[2]),
}
print(f"lapx {version('lapx')}: scipy {best:.3e}", {name: f"{value:.3e}" for name, value in found.items()})
assert found["lapjvs"] > 1.1 * best, "lapjvs keeps float64 now"
assert np.isclose(found["lapjv"], best) and np.isclose(found["lapjvs, prefer_float32=False"], best)
PY
