"""The specs of random programs, a digest a line: the same whatever version of JAX has traced them.

python -m tests.fuzz.specs 300
"""

import hashlib
import json
import random
import sys
from collections.abc import Iterator

from dwalign.program import infer_spec
from tests.fuzz.programs import OPERATIONS, Program, Step, realise

# names of primitives are JAX's own affair
ASIDE = ("notes", "unknown", "crc32")


def program(seed: int) -> Program:
    """Drawn by Python, of which every version draws the same; Hypothesis draws others from version to version."""
    rng = random.Random(seed)
    step = lambda: Step(rng.choice(list(OPERATIONS)), rng.randrange(4), rng.randrange(4), rng.randrange(12))
    return tuple(step() for _ in range(rng.randint(1, 6)))


def digests(count: int) -> Iterator[str]:
    for seed in range(count):
        apply, params, inputs = realise(program(seed))
        specs = [infer_spec(apply, params, *inputs, kinds=kinds).to_json() for kinds in ("permutation", "all")]
        said = [{key: value for key, value in json.loads(spec).items() if key not in ASIDE} for spec in specs]
        yield hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]


if __name__ == "__main__":
    print(*digests(int(sys.argv[1])), sep="\n")
