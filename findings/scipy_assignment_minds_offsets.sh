#!/usr/bin/env bash
# scipy 1.17.1, `scipy.optimize.linear_sum_assignment`: what is added to a whole row or column of the costs is paid by
# every assignment and changes none, so a guess would be that it costs nothing: textbook solvers of this family begin by
# reducing rows and columns. This one does not. On 512 x 512 normal costs it takes about nine times as long once each
# row and column has an offset of its own, and about .7 of the time once the minima of rows and then of columns are
# taken off beforehand, by the caller. Scores of units have such offsets: units that respond strongly score high with all.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 2>/dev/null
cd "$home"
"$home/env/bin/python" - <<'PY'
import statistics
import time
from importlib.metadata import version

import numpy as np
from scipy.optimize import linear_sum_assignment

rng = np.random.default_rng(0)
plain = rng.standard_normal((512, 512))
offset = plain + 10 * rng.standard_normal((512, 1)) + 10 * rng.standard_normal((1, 512))
reduced = plain - plain.min(1, keepdims=True)
reduced -= reduced.min(0)
seconds = {"plain": [], "with offsets": [], "reduced": []}
found = {}
for _ in range(7):
    for name, costs in zip(seconds, (plain, offset, reduced)):
        begin = time.process_time()
        found[name] = linear_sum_assignment(costs)[1]
        seconds[name].append(time.process_time() - begin)
assert all((one == found["plain"]).all() for one in found.values())
medians = {name: statistics.median(times) for name, times in seconds.items()}
print(f"scipy {version('scipy')}: the same assignment, in", {k: f"{1000 * v:.1f} ms" for k, v in medians.items()})
assert medians["with offsets"] > 4 * medians["plain"], "offsets cost little now"
assert medians["reduced"] < 0.85 * medians["plain"], "reducing first gains nothing now"
PY
