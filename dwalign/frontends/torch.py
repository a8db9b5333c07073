"""Modules of torch, traced by torchax: the params are the state dict, `{name: array}`, of tied tensors the first name.

torchax 0.0.13 asks for overloads that torch 2.13 dropped; 0.0.14.dev20261026 works with torch 2.13.0 and 2.14.1.
Importing it renames torch's spare device to `jax` and switches a fast path of attention off, in the whole process.
"""

import contextlib
import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.extras import load
from dwalign.frontends.models import Opened, check_shapes
from dwalign.symmetry.fitting import first_few

PyTree = Any


def open_model(
    module: Any,
    *inputs: PyTree,
    params: PyTree,
    key: Any,
    call: dict[str, Any],
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Opened:
    """`around()` is entered for each call, where modules of a package cannot be traced without."""
    torch = load("torch")
    names = _names(module)
    given = names if params is None else _own(module, names, params)
    own = {name: _array(value) if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    # tables of positions and the like, which a state dict leaves out
    kept = {id(tensor) for tensor in names.values()}
    buffers = [name for name, _ in module.named_buffers() if name in names]
    tables = {name: _array(tensor) for name, tensor in module.named_buffers() if id(tensor) not in kept}
    evaluated = _skeleton(module).eval()
    norms = [part for part in evaluated.modules() if _has_statistics(part)]
    trained = copy.deepcopy(evaluated)
    for part in filter(_has_statistics, trained.modules()):
        # statistics of these inputs alone
        part.train().momentum = 1.0
    by_name = _by_name(module, inputs)

    def run(skeleton, params, inputs):
        environment = _environment()
        args, kwargs = ((), inputs[0]) if by_name else (inputs, {})
        known, args, kwargs = environment.j2t_iso(jax.tree.map(jnp.asarray, (params | tables, args, kwargs)))
        # some modules remember what they computed
        fresh = copy.deepcopy(skeleton)
        with environment.anew(), around(), warnings.catch_warnings():
            # torch counts in int64, whoever wrote the module
            warnings.filterwarnings("ignore", "Explicitly requested dtype")
            outputs = torch.func.functional_call(fresh, known, args, {**kwargs, **call})
        return _outputs(environment.t2j_iso(outputs)), {name: environment.t2j_iso(known[name]) for name in buffers}

    def apply(params, *inputs):
        return run(evaluated, params, inputs)[0]

    def train(params, *inputs):
        outputs, new = run(trained, params, inputs)
        return outputs, {**params, **new}

    return Opened(apply, own, train if norms else None)


def shapes_of(module: Any, *inputs: PyTree) -> PyTree:
    """The params of the module without their values; nothing is copied."""
    kind = lambda tensor: jnp.dtype(str(tensor.dtype).removeprefix("torch."))
    return {name: jax.ShapeDtypeStruct(tuple(x.shape), kind(x)) for name, x in _names(module).items()}


def into_model(module: Any, params: PyTree) -> Any:
    """The module itself, which now holds these arrays; tied tensors stay tied, and all keep their types."""
    torch, names = load("torch"), _names(module)
    params = _own(module, names, params)
    check_shapes(names, params)
    with torch.no_grad():
        for name, tensor in names.items():
            tensor.copy_(_tensor(params[name]))
    return module


def ties(module: Any) -> dict[str, str]:
    """For all other names of tied tensors the first."""
    first = {id(tensor): name for name, tensor in _names(module).items()}
    return {name: first[id(x)] for name, x in _tensors(module).items() if first[id(x)] != name}


def _own(module: Any, names: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Of params, or of a whole state dict, the arrays of this module, of tied tensors the first."""
    missing, more = names.keys() - params.keys(), params.keys() - names.keys() - ties(module).keys()
    if missing or more:
        raise ValueError(
            f"params must hold the arrays of this module: missing {first_few(sorted(missing))}, unexpected "
            f"{first_few(sorted(more))}; choose the params or the state dict of such a module"
        )
    return {name: params[name] for name in names}


def _names(module: Any) -> dict[str, Any]:
    """The state dict, of tied tensors the first name."""
    first: dict[int, tuple[str, Any]] = {}
    for name, value in _tensors(module).items():
        first.setdefault(id(value), (name, value))
    return dict(first.values())


def _tensors(module: Any) -> dict[str, Any]:
    # a state dict may hold anything else, too
    kind = load("torch").Tensor
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, kind)}


def _skeleton(module: Any) -> Any:
    """A copy without values, which shares nothing with the module; what was tied stays tied."""
    torch = load("torch")
    attributes = [value for part in module.modules() for value in vars(part).values()]
    # what was computed in a call, and torch copies only without its history
    computed = [value for value in attributes if isinstance(value, torch.Tensor) and value.grad_fn is not None]
    parameter = lambda tensor: torch.nn.Parameter(tensor.data.to("meta"), tensor.requires_grad)
    return copy.deepcopy(
        module,
        {id(tensor): parameter(tensor) for tensor in module.parameters()}
        | {id(tensor): tensor.to("meta") for tensor in module.buffers()}
        | {id(tensor): tensor.detach().clone() for tensor in computed},
    )


def _has_statistics(part: Any) -> bool:
    norm = load("torch").nn.modules.batchnorm._NormBase
    return isinstance(part, norm) and part.running_mean is not None


def _by_name(module: Any, inputs: tuple[PyTree, ...]) -> bool:
    """Whether the inputs are one dictionary of the arguments of `forward`."""
    one = inputs[0] if len(inputs) == 1 else None
    return isinstance(one, dict) and one.keys() <= inspect.signature(module.forward).parameters.keys()


def _outputs(outputs: PyTree) -> PyTree:
    """Outputs as JAX knows them: as they are, or the arrays in a container of somebody's own, one alone as itself."""
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(outputs)):
        return outputs
    leaves = load("torch.utils._pytree").tree_leaves(outputs)
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    return arrays[0] if len(arrays) == 1 else arrays


@functools.cache
def _environment() -> Any:
    """An environment of torchax with corrections, which nobody else sees."""
    torch, view = load("torch"), load("torchax.view")
    tensor: Any = load("torchax.tensor")
    pytree = load("torch.utils._pytree")
    functional, linear_of = torch.nn.functional, load("torchax.ops.jtorch").functional_linear

    class Environment(tensor.Environment):
        """One in which what a module makes of numbers, or holds, is a constant, whether or not it names a device."""

        def anew(self):
            """The environment, which will draw what it drew the last time."""
            with _at_once():
                self.prng_key = jax.random.key(0)
            return self

        def dispatch(self, func, types, args, kwargs):
            arrays = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            source = lambda x: x.source_jax() if isinstance(x, view.View) else getattr(x, "_elem", None)
            # an identity matrix is known where the program makes it, among constants it is one of many
            constant = func is not torch.eye and not any(isinstance(source(x), jax.core.Tracer) for x in arrays)
            with _at_once(constant):
                return super().dispatch(func, types, args, kwargs)

        def _should_use_torchax_tensor(self, device):
            return device is None or super()._should_use_torchax_tensor(device)

        def t2j_iso(self, torchtensors):
            is_ours = lambda x: isinstance(x, tensor.Tensor | view.View)
            ours = lambda x: x if is_ours(x) else tensor.Tensor(self.t2j_copy(x), self)
            return super().t2j_iso(pytree.tree_map_only(torch.Tensor, ours, torchtensors))

        def get_and_rotate_prng_key(self, generator=None):
            with _at_once():
                return super().get_and_rotate_prng_key(generator)

    environment = Environment()

    def linear(input, weight, bias=None):
        # torchax has other names for these arguments
        return environment.j2t_iso(linear_of(*environment.t2j_iso((input, weight, bias))))

    def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        # torchax leaves the running statistics as they are
        if training and running_mean is not None:
            axes = [axis for axis in range(input.ndim) if axis != 1]
            for running, found in ((running_mean, input.mean(axes)), (running_var, input.var(axes))):
                running.copy_((1 - momentum) * running + momentum * found)
        return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, False)

    environment.override_op_definition(functional.linear, linear)
    environment.override_op_definition(functional.batch_norm, batch_norm)
    return environment


def _at_once(whether: bool = True) -> contextlib.AbstractContextManager:
    """Whether what is computed has values while the program is traced, for a module may ask for those of constants."""
    return jax.ensure_compile_time_eval() if whether else contextlib.nullcontext()


def _array(tensor: Any) -> np.ndarray:
    """A copy, also of a type that torch does not give to NumPy (bfloat16, 8-bit floats)."""
    torch, tensor = load("torch"), tensor.detach().cpu().contiguous()
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind.startswith(("bfloat", "float8")):
        bits = tensor.view({1: torch.uint8, 2: torch.int16}[tensor.element_size()])
        return bits.numpy().view(jnp.dtype(kind)).copy()
    return tensor.numpy().copy()


def _tensor(array: Any) -> Any:
    """The inverse, where torch has the type: exact, for it is only widened."""
    array = np.asarray(array)
    narrow = array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8"))
    return load("torch").from_numpy(np.array(array, np.float32 if narrow else None))
