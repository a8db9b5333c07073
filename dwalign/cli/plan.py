"""What a command is about to do: what would be matched, what is fixed and why, memory and time."""

import inspect
import math
import time
from typing import Any, NamedTuple

import numpy as np

import dwalign
from dwalign.cli.narrate import size
from dwalign.cli.subject import Subject

# passes over the data: one forward each for what reads activations, both ends of a gradient for each step of descent
FORWARD, GRADIENT = 1, 3
# of weight matching, until nothing moves
SWEEPS = 10
# what a method compiles by what it asks for, and the check: so many times the network alone, and seconds of its own, as
# experiments/plans.py measures them
COMPILED = {"nothing": (0, 6.0), "weights": (0, 6.0), "inputs": (5, 0.0), "labels": (20, 6.0), "aligner": (20, 6.0)}
CHECKED = (0.4, 0.0)
UNCHECKED = (
    "that permuting keeps the function was read off the program and not checked on numbers, which takes several times "
    "the memory of a network; --certify yes does"
)


def plan(subject: Subject, method: Any = None, *, certified: bool = True) -> dict[str, Any]:
    """The plan as JSON values.

    Memory is that of the networks and of what the method keeps, without the runtime's own. Seconds of work come from
    the number of operations and the speed of a product of matrices here, those of compilation from how long it takes
    here to compile the network alone. Both are rough.
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
        compiles = [COMPILED[part.asks] for part in method.parts if not part.host] + [CHECKED] * certified
        forward = _forward(network) if compiles else Forward(0.0, 0.0)
        work = sum(_operations(subject, part, forward.operations) for part in method.parts)
        found |= {
            "method": str(method),
            "networks": networks,
            "certified": certified,
            "memory": stored * (networks + (0 if method.needs in ("nothing", "weights") else 3)),
            "seconds": round((networks - 1) * work / _speed(), 2),
            "compilation": round(sum(times * forward.compiling + own for times, own in compiles), 1),
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
        f"matched    {len(groups)} group{'s' * (len(groups) != 1)} of units: {', '.join(shown + more) or 'none'}",
    ]
    fixed = [f"{why} ({count})" for why, count in list(found["fixed"].items())[:5]]
    lines += [f"fixed      {line}" if k == 0 else f"           {line}" for k, line in enumerate(fixed)]
    lines += [f"unknown    primitive {name}, first met {where}" for name, where in found["unknown"].items()]
    if "method" in found:
        if not found["certified"]:
            lines.append(f"unchecked  {UNCHECKED}")
        lines.append(
            f"expected   {found['method']} on {found['networks']} networks: about {size(found['memory'])}, "
            f"{found['seconds']:.1f} s of work and {found['compilation']:.0f} s of compilation"
        )
    return "\n".join(lines)


class Forward(NamedTuple):
    """What the network costs on one example: operations, and the seconds that compiling it takes here."""

    operations: float
    compiling: float


def _forward(network: Any) -> Forward:
    import jax

    lowered = jax.jit(network.apply).lower(network.params, network.example)
    cost, begin = lowered.cost_analysis() or {}, time.perf_counter()
    lowered.compile()
    return Forward(float(cost.get("flops", 0.0)), time.perf_counter() - begin)


def _operations(subject: Subject, part: Any, forward: float) -> float:
    """Multiplications and additions of one method on two networks."""
    import jax

    spec, data = subject.network.spec, subject.data
    sizes = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(subject.network.params))
    # every weight is multiplied by the units on its other side
    products = 2.0 * sizes * max(spec.sizes.values(), default=1)
    assignments = sum(math.prod(spec.batch_shape(g)) * 10.0 * n**3 for g, n in spec.sizes.items())
    examples = 0 if data is None else dwalign.program.count_examples(data.inputs) or 1
    steps, images = _descent(part, examples)
    sweeps = SWEEPS if part.asks == "weights" else 1
    seen = 2 * FORWARD * (examples if part.asks in ("inputs", "labels") else images)
    return sweeps * (products + assignments) + seen * forward + steps * GRADIENT * (products + images * forward)


def _descent(part: Any, examples: int) -> tuple[int, int]:
    """How many steps down a loss a method takes, and on how many examples each."""
    if part.asks == "aligner":
        model = part.options["aligner"].model
        return model.descent, model.images or dwalign.program.count_examples(model.inputs) or 0
    if part.asks != "labels" or part.count is None:
        return 0, 0
    defaults = {name: one.default for name, one in inspect.signature(part.function).parameters.items()}
    options = {**defaults, **part.options}
    return options[part.count[0]], min(examples, options.get("images") or examples)


def _speed() -> float:
    """Operations a second of a product of two matrices of 512."""
    x = np.ones((512, 512), np.float32)
    x @ x
    begin = time.perf_counter()
    x @ x
    return 2 * 512**3 / (time.perf_counter() - begin)
