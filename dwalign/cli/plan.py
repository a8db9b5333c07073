"""What a command is about to do: what would be matched, what is fixed and why, memory and time."""

import math
import time
from typing import Any

import numpy as np

import dwalign
from dwalign.cli.narrate import size
from dwalign.cli.subject import Subject

# passes over the data: one forward each for what reads activations, both ends of a gradient for each step of descent
FORWARD, GRADIENT = 1, 3
UNCHECKED = (
    "that permuting keeps the function was read off the program and not checked on numbers, which takes several times "
    "the memory of a network; --certify yes does"
)


def plan(subject: Subject, method: Any = None, *, certified: bool = True) -> dict[str, Any]:
    """The plan as JSON values.

    Memory is that of the networks and of what the method keeps, without the runtime's own; seconds come from the number
    of operations and the speed of a product of matrices here, and are rough.
    """
    import jax

    network, spec = subject.network, subject.network.spec
    leaves = jax.tree.leaves(network.params)
    stored = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
    found: dict[str, Any] = {
        "weights": sum(math.prod(leaf.shape) for leaf in leaves),
        "arrays": len(leaves),
        "groups": {group: [*spec.batch_shape(group), n] for group, n in spec.sizes.items()},
        "moving": dwalign.symmetry.moving_share(spec, network.params),
        "fixed": dwalign.symmetry.pins(spec),
        "unknown": dict(spec.unknown),
    }
    if method is not None:
        networks = max(2, len(subject.params))
        found |= {
            "method": str(method),
            "networks": networks,
            "certified": certified,
            "memory": stored * (networks + (0 if method.needs in ("nothing", "weights") else 3)),
            "seconds": round((networks - 1) * _operations(subject, method) / _speed(), 2),
        }
    return found


def plan_text(found: dict[str, Any]) -> str:
    """The plan as people read it."""
    groups = found["groups"]
    shown = [f"{group} {'x'.join(map(str, shape))}" for group, shape in list(groups.items())[:8]]
    more = [f"{len(groups) - 8} more"] if len(groups) > 8 else []
    lines = [
        f"{found['weights']:,} numbers in {found['arrays']} arrays, {found['moving']:.1%} of them in units that can be "
        "permuted",
        f"matched    {len(groups)} groups of units: {', '.join(shown + more) or 'none'}",
    ]
    fixed = [f"{why} ({count})" for why, count in list(found["fixed"].items())[:5]]
    lines += [f"fixed      {line}" if k == 0 else f"           {line}" for k, line in enumerate(fixed)]
    lines += [f"unknown    primitive {name}, first met {where}" for name, where in found["unknown"].items()]
    if "method" in found:
        if not found["certified"]:
            lines.append(f"unchecked  {UNCHECKED}")
        lines.append(
            f"expected   {found['method']} on {found['networks']} networks: about {size(found['memory'])} and "
            f"{found['seconds']:.1f} s, and the compilation of what looks at data"
        )
    return "\n".join(lines)


def _operations(subject: Subject, method: Any) -> float:
    """Multiplications and additions of one alignment."""
    import jax

    spec, network = subject.network.spec, subject.network
    sizes = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network.params))
    # a sweep multiplies every weight by the units on its other side, and solves an assignment a group
    widest = max(spec.sizes.values(), default=1)
    sweep = 2.0 * sizes * widest + sum(math.prod(spec.batch_shape(g)) * 10.0 * n**3 for g, n in spec.sizes.items())
    total = 10 * sweep if method.needs == "weights" else sweep
    if subject.data is None or method.needs in ("nothing", "weights"):
        return total
    few = dwalign.program.take_examples(subject.data.inputs, slice(2))
    cost = jax.jit(network.apply).lower(network.params, few).cost_analysis() or {}
    one = float(cost.get("flops", 0.0)) / 2
    examples = dwalign.program.count_examples(subject.data.inputs) or 1
    steps = sum(int(part.options.get("steps", 20)) for part in method.parts if part.asks == "labels")
    return total + one * examples * (2 * FORWARD + 2 * GRADIENT * steps)


def _speed() -> float:
    """Operations a second of a product of two matrices of 512."""
    x = np.ones((512, 512), np.float32)
    x @ x
    begin = time.perf_counter()
    x @ x
    return 2 * 512**3 / (time.perf_counter() - begin)
