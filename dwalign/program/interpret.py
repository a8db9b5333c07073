"""Run a program with another meaning of its equations: into loops, branches and calls, equation by equation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from dwalign.program.inference.calls import branches, called, scan_parts
from dwalign.symmetry import is_traced

Equation = Callable[[Any, list], Sequence]


def interpret(
    program: ClosedJaxpr | Jaxpr,
    equation: Equation,
    cast: Callable[[Any, Any], Any] = lambda value, aval: value,
    *,
    enter: Callable[[Any], bool] = lambda eqn: True,
) -> Callable[..., list]:
    """A function of the flat arguments of a program.

    Args:
      program: what `jax.make_jaxpr` gives.
      equation: `(eqn, values) -> results` for each equation that is no loop, branch or call.
      cast: `(value, aval) -> value` for arguments, constants and literals, that are declared as `aval`.
      enter: which loops, branches and calls are gone into; the others are equations like any.

    >>> import jax.numpy as jnp
    >>> program = jax.make_jaxpr(lambda x: jax.jit(jnp.sin)(x) + 1)(2.0)
    >>> names = []
    >>> plain = lambda eqn, values: names.append(eqn.primitive.name) or [eqn.primitive.bind(*values, **eqn.params)]
    >>> float(interpret(program, plain)(0.0)[0]), names
    (1.0, ['sin', 'add'])
    """

    def run(program: ClosedJaxpr | Jaxpr, values: Sequence) -> list:
        jaxpr, consts = (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())
        env: dict[Any, Any] = dict(zip(jaxpr.invars, values, strict=True))
        env.update((var, cast(const, var.aval)) for var, const in zip(jaxpr.constvars, consts, strict=True))
        # a Python number would take the types of the world around, also where it is an integer
        read = lambda var: cast(np.asarray(var.val, var.aval.dtype), var.aval) if isinstance(var, Literal) else env[var]
        for eqn in jaxpr.eqns:
            ins = [read(var) for var in eqn.invars]
            if eqn.primitive.name in CONTROL and enter(eqn):
                outs = CONTROL[eqn.primitive.name](eqn.params, ins, run, eqn)
            elif enter(eqn) and (body := called(eqn)) is not None and eqn.primitive.name != "shard_map":
                outs = run(body, ins)
            else:
                outs = equation(eqn, ins)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(var) for var in jaxpr.outvars]

    declared = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return lambda *values: run(program, [cast(one, var.aval) for one, var in zip(values, declared.invars, strict=True)])


def trace(function: Callable, *args: Any) -> tuple[ClosedJaxpr, Callable[[Sequence], Any]]:
    """The program of a function, and what puts the results of that into the tree that the function returns.

    What does not depend on its arguments, a number of Python say, is no result of the program and stays what it was.

    >>> program, put = trace(lambda x: {"sine": jax.numpy.sin(x), "count": 3}, 0.0)
    >>> len(program.jaxpr.outvars), put(["a result"])
    (1, {'count': 3, 'sine': 'a result'})
    """
    form, fixed = jax.tree.structure(()), {}

    def computed(*args):
        nonlocal form
        leaves, form = jax.tree.flatten(function(*args))
        fixed.update({number: leaf for number, leaf in enumerate(leaves) if not is_traced(leaf)})
        return [leaf for leaf in leaves if is_traced(leaf)]

    program = jax.make_jaxpr(computed)(*args)

    def put(results: Sequence) -> Any:
        rest = iter(results)
        return form.unflatten([fixed[k] if k in fixed else next(rest) for k in range(form.num_leaves)])

    return program, put


def bind(eqn: Any, ins: Sequence) -> list:
    """The results of one equation, whatever programs it holds; what has rules of its own for gradients keeps them."""
    settings = eqn.primitive.get_bind_params(eqn.params)
    functions, params = settings if isinstance(settings, tuple) else ((), settings)
    # what is drawn also depends on settings that held where the program was traced
    with eqn.ctx.manager:
        outs = eqn.primitive.bind(*functions, *ins, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def _scan(params, ins, run, eqn):
    consts, carries = scan_parts(eqn)

    def turn(state, row):
        outs = run(params["jaxpr"], [*ins[:consts], *state, *row])
        return outs[:carries], outs[carries:]

    start, rows = ins[consts : consts + carries], ins[consts + carries :]
    state, found = jax.lax.scan(turn, start, rows, params["length"], params["reverse"])
    return [*state, *found]


def _while(params, ins, run, eqn):
    tests, bodies = params["cond_nconsts"], params["body_nconsts"]
    test, fixed, state = ins[:tests], ins[tests : tests + bodies], ins[tests + bodies :]
    asked = lambda now: run(params["cond_jaxpr"], [*test, *now])[0]
    return jax.lax.while_loop(
        lambda now: jnp.any(asked(now)),
        lambda now: going_on(asked(now), run(params["body_jaxpr"], [*fixed, *now]), now),
        state,
    )


def going_on(where: jax.Array, after: Sequence, before: Sequence) -> list:
    """What a turn leaves of a loop under `vmap`, each example of which stops by itself: `where` is for all of them."""
    if not where.ndim:
        return list(after)
    spread = lambda one: jax.lax.broadcast_in_dim(where, one.shape, range(where.ndim))
    return [jnp.where(spread(new), new, old) for new, old in zip(after, before, strict=True)]


def _cond(params, ins, run, eqn):
    bodies = [lambda *values, body=body: run(body, values) for body in branches(eqn)]
    return jax.lax.switch(ins[0], bodies, *ins[1:])


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}
