"""Networks as research code writes them: plain JAX, after what public repositories compute, each small."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covered.case import Case, images, tokens, vectors

NEEDS = ("jax",)
SERIES = vectors(2, 7, 3)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    draw = lambda shape: rng.standard_normal(shape) / np.sqrt(shape[-2] if len(shape) > 1 else 1)
    return {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}


def each(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`run(params, example)` for all examples."""
    return jax.vmap(run, (None, 0))


def conv(x: Any, kernel: Any, **options: Any) -> Any:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def layer_norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def group_norm(x: Any, scale: Any, size: int = 4) -> Any:
    """As Flax has it: statistics of the groups, repeated for each of their units."""
    grouped = x.reshape(*x.shape[:-1], -1, size)
    mean, square = (jnp.repeat(one.mean((1, 2, 4)), size, -1)[:, None, None] for one in (grouped, grouped**2))
    return (x - mean) * jax.lax.rsqrt(square - mean**2 + 1e-5) * scale


def state_space(p: Any, series: Any) -> Any:
    """A diagonal one for all inputs at once, complex, by an associative scan (S5)."""
    rates = -jnp.exp(p["decay"]) + 1j * p["turn"]
    discrete = jnp.exp(rates * jnp.exp(p["step"]))
    driven = (series @ p["in"]) @ ((discrete - 1) / rates * (p["real"] + 1j * p["imaginary"]))
    rate = jnp.broadcast_to(discrete, driven.shape)
    _, states = jax.lax.associative_scan(lambda a, b: (b[0] * a[0], b[0] * a[1] + b[1]), (rate, driven))
    return jax.nn.gelu(2 * (states @ (p["read"] + 1j * p["read_i"])).real).mean(0) @ p["out"]


def state_space_filters(p: Any, series: Any) -> Any:
    """One for each unit, as a filter that no example reaches, applied by Fourier transforms (S4D)."""
    units, length = series @ p["in"], len(series)
    rates = (-jnp.exp(p["decay"]) + 1j * p["turn"])[None]
    modes = (p["real"] + 1j * p["imaginary"]) * jnp.exp(rates * jnp.exp(p["step"]) * jnp.arange(length)[:, None, None])
    filters, twice = modes.sum(1).real, 2 * length
    moved = jnp.fft.irfft(jnp.fft.rfft(units, twice, 0) * jnp.fft.rfft(filters, twice, 0), twice, 0)[:length]
    return jax.nn.gelu(moved + p["skip"] * units).mean(0) @ p["out"]


def selective(p: Any, numbers: Any) -> Any:
    """A selective state space between gates (Mamba)."""
    x = p["table"][numbers]
    units, gate = jnp.split(x @ p["in"], 2, -1)
    units = jax.nn.silu(sum(jnp.pad(units, ((k, 0), (0, 0)))[: len(x)] * p["taps"][k] for k in range(3)))
    narrow, write, read = jnp.split(units @ p["select"], (3, 8), -1)
    step = jax.nn.softplus(narrow @ p["step"] + p["bias"])
    decay = jnp.exp(-step[..., None] * jnp.exp(p["decay"]))
    turn = lambda state, now: ((state := now[0] * state + now[1]), state @ now[2])
    _, y = jax.lax.scan(turn, jnp.zeros((12, 5)), (decay, (step * units)[..., None] * write[:, None], read))
    return (x + ((y + p["skip"] * units) * jax.nn.silu(gate)) @ p["out"]) @ p["table"].T


def recurrent_unit(p: Any, series: Any) -> Any:
    """A gated linear recurrence with block-diagonal gates (Griffin)."""
    x = series @ p["in"]
    units = x @ p["up"]
    blocks = lambda w: jax.nn.sigmoid(jnp.einsum("tbi,bij->tbj", units.reshape(-1, 3, 4), w)).reshape(units.shape)
    log = -8 * blocks(p["forget"]) * jax.nn.softplus(p["rate"])
    driven = units * blocks(p["input"]) * jnp.sqrt(1 - jnp.exp(2 * log))
    _, y = jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (jnp.exp(log), driven))
    return (x + (y * jax.nn.gelu(x @ p["gate"])) @ p["down"]).mean(0) @ p["out"]


def neural_operator(p: Any, pictures: Any) -> Any:
    """Products of some frequencies with complex matrices, and one matrix for all places (FNO)."""
    x = pictures @ p["lift"]
    spectrum, some = jnp.fft.rfft2(x, axes=(1, 2)), (slice(None), slice(3), slice(3))
    mixed = jnp.einsum("bxyi,xyio->bxyo", spectrum[some], p["real"] + 1j * p["imaginary"])
    found = jnp.zeros((*spectrum.shape[:3], mixed.shape[-1]), spectrum.dtype).at[some].set(mixed)
    x = jax.nn.gelu(jnp.fft.irfft2(found, x.shape[1:3], axes=(1, 2)) + x @ p["skip"])
    return jax.nn.gelu(x @ p["up"]) @ p["down"]


def evoformer(p: Any, inputs: Any) -> Any:
    """Sequences and pairs of their places: attention with a bias of pairs, outer products, triangles (AlphaFold)."""
    rows, pairs = inputs[0] @ p["rows"], inputs[1] @ p["pairs"]
    q, k, v = (jnp.einsum("sic,chd->sihd", layer_norm(rows), p[name]) for name in "qkv")
    logits = jnp.einsum("sihd,sjhd->shij", q, k) + jnp.moveaxis(layer_norm(pairs) @ p["bias"], -1, 0)[None]
    gate = jax.nn.sigmoid(jnp.einsum("sic,chd->sihd", layer_norm(rows), p["gate"]))
    rows = rows + jnp.einsum("shij,sjhd,sihd,hdc->sic", jax.nn.softmax(logits), v, gate, p["out"])
    left, right = layer_norm(rows) @ p["left"], layer_norm(rows) @ p["right"]
    pairs = pairs + jnp.einsum("sic,sjd,cde->ije", left, right, p["outer"])
    edges = jax.nn.sigmoid(layer_norm(pairs) @ p["edge_gate"]) * (layer_norm(pairs) @ p["edges"])
    pairs = pairs + layer_norm(jnp.einsum("ikc,jkc->ijc", edges, edges)) @ p["triangle"]
    return rows[0] @ p["row_head"], (pairs + jnp.swapaxes(pairs, 0, 1)) @ p["pair_head"]


def world_model(p: Any, series: Any) -> Any:
    """A recurrent state in blocks and categorical codes of it, straight through (Dreamer)."""

    def turn(carry, seen):
        state, code = carry
        told = jax.nn.silu(layer_norm(jnp.concatenate([code.reshape(-1), seen]) @ p["in"]))
        blocks = jnp.concatenate([state, jnp.broadcast_to(told, (4, len(told)))], -1)
        reset, new, update = jnp.split(jnp.einsum("gi,gio->go", blocks, p["blocks"]), 3, -1)
        update = jax.nn.sigmoid(update)
        state = update * jnp.tanh(jax.nn.sigmoid(reset) * new) + (1 - update) * state
        logits = jax.nn.silu(jnp.concatenate([state.reshape(-1), seen]) @ p["post"]) @ p["codes"]
        odds = jax.nn.softmax(logits.reshape(3, 5))
        code = odds + jax.lax.stop_gradient(jax.nn.one_hot(jnp.argmax(odds, -1), 5) - odds)
        return (state, code), jnp.concatenate([state.reshape(-1), code.reshape(-1)])

    _, found = jax.lax.scan(turn, (jnp.zeros((4, 4)), jnp.zeros((3, 5))), series)
    return jax.nn.silu(found @ p["up"]) @ p["down"]


def generator(p: Any, noise: Any) -> Any:
    """Kernels that a style modulates, each example a group of one convolution (StyleGAN2)."""
    style, x = jax.nn.leaky_relu(noise @ p["map"]), jnp.tile(p["constant"], (len(noise), 1, 1, 1))
    for number in "12":
        kernel = p["kernel" + number] * (style @ p["style" + number] + 1)[:, None, None, :, None]
        kernel = kernel * jax.lax.rsqrt((kernel**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        many, size, (narrow, wide) = len(x), x.shape[1], kernel.shape[3:]
        joined = x.transpose(1, 2, 0, 3).reshape(1, size, size, many * narrow)
        kernels = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, narrow, many * wide)
        x = conv(joined, kernels, feature_group_count=many).reshape(size, size, many, wide)
        x = jax.nn.leaky_relu(x.transpose(2, 0, 1, 3))
    return x @ p["colours"]


def automaton(p: Any, pictures: Any) -> Any:
    """Hidden channels that begin as zeros beside those that are seen (growing cellular automata)."""
    state = jnp.concatenate([pictures, jnp.zeros((*pictures.shape[:-1], 12))], -1)
    slope = np.float32([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    look = lambda x, k: conv(x, jnp.tile(k[:, :, None, None], (1, 1, 1, 16)), feature_group_count=16)
    for _ in range(3):
        seen = jnp.concatenate([state, look(state, slope), look(state, slope.T)], -1)
        state = state + jax.nn.relu(seen @ p["up"]) @ p["down"]
    return state[..., :4]


def capsules(p: Any, x: Any) -> Any:
    """Vectors that agree, by three rounds of routing."""
    squash = lambda v: v * jnp.sqrt((v**2).sum(-1, keepdims=True) + 1e-9) / (1 + (v**2).sum(-1, keepdims=True))
    votes = jnp.einsum("id,ijde->ije", squash(jax.nn.relu(x @ p["in"]).reshape(-1, 4)), p["votes"])
    logits = jnp.zeros(votes.shape[:2])
    for _ in range(3):
        found = squash(jnp.einsum("ij,ije->je", jax.nn.softmax(logits, -1), votes))
        logits = logits + jnp.einsum("ije,je->ij", votes, found)
    return jnp.sqrt((found**2).sum(-1)), jax.nn.relu(found.reshape(-1) @ p["up"]) @ p["down"]


def score(p: Any, pictures: Any) -> Any:
    """A U-Net with GroupNorm, whose skip connections lie beside streams of another width (score matching)."""
    act = lambda x, name: jax.nn.silu(group_norm(x, p[name]))
    wide = conv(pictures, p["first"])
    narrow = conv(act(wide, "scale1"), p["down"])
    both = jnp.concatenate([narrow, wide], -1)
    stream = conv(act(both, "scale2"), p["up"]) + both @ p["shortcut"]
    return conv(act(jnp.concatenate([stream, wide], -1), "scale3"), p["last"])


def forces(p: Any, places: Any) -> Any:
    """Continuous filters between atoms, and the gradient of the energy (SchNet)."""

    def energy(places):
        apart = jnp.sqrt(((places[:, None] - places[None]) ** 2).sum(-1) + 1e-6)
        x, near = p["table"], jnp.exp(-2 * (apart[..., None] - jnp.linspace(0, 5, 6)) ** 2)
        filters = jax.nn.softplus(near @ p["one"]) @ p["two"]
        x = x + jax.nn.softplus(jnp.einsum("ijf,jf->if", filters, x @ p["in"]) @ p["mix"]) @ p["back"]
        return (jax.nn.softplus(x @ p["up"]) @ p["down"]).sum()

    return jax.value_and_grad(energy)(places)


def mechanics(p: Any, point: Any) -> Any:
    """Accelerations from second derivatives of a scalar (Lagrangian networks)."""
    hidden = lambda q, v: jax.nn.softplus(jax.nn.softplus(jnp.concatenate([q, v]) @ p["one"]) @ p["two"])
    scalar, (q, v) = lambda q, v: (hidden(q, v) @ p["out"])[0] + v @ v, jnp.split(point, 2)
    pull = jax.grad(scalar)(q, v) - jax.jacobian(jax.grad(scalar, 1))(q, v) @ v
    return jnp.linalg.solve(jax.hessian(scalar, 1)(q, v), pull)


def equilibrium(p: Any, x: Any) -> Any:
    """A layer that is repeated until it settles, for each example by itself."""
    turn = lambda now: (jnp.tanh(now[0] @ p["turn"] + x @ p["in"]), now[0], now[2] + 1)
    going = lambda now: (jnp.abs(now[0] - now[1]).max() > 1e-3) & (now[2] < 20)
    settled, _, _ = jax.lax.while_loop(going, turn, (jnp.zeros(8), jnp.ones(8), 0))
    return settled @ p["out"]


def experts(p: Any, x: Any) -> Any:
    """Each row to its best expert, of which each takes so many."""
    x = jnp.tanh(x @ p["in"])
    odds = jax.nn.softmax(x @ p["gate"])
    chosen = jax.nn.one_hot(jnp.argmax(odds, -1), 4)
    place = (jnp.cumsum(chosen, 0) - 1) * chosen
    sent = jax.nn.one_hot(place.astype(int), 3) * chosen[..., None]
    inside = jax.nn.gelu(jnp.einsum("nec,nd,edf->ecf", sent, x, p["up"]))
    return (x + jnp.einsum("nec,ne,ecf,efd->nd", sent, odds, inside, p["down"])) @ p["out"]


def sorted_experts(p: Any, x: Any) -> Any:
    """Rows sorted by their experts, all products in one."""
    x = jnp.tanh(x @ p["in"])
    share, which = jax.lax.top_k(jax.nn.softmax(x @ p["gate"]), 2)
    order, counts = jnp.argsort(which.reshape(-1)), jnp.bincount(which.reshape(-1), length=4)
    inside = jax.nn.gelu(jax.lax.ragged_dot(jnp.repeat(x, 2, 0)[order], p["up"], counts))
    found = jax.lax.ragged_dot(inside, p["down"], counts)[jnp.argsort(order)].reshape(-1, 2, x.shape[-1])
    return (x + (share[..., None] * found).sum(1)) @ p["out"]


def case(apply: Callable, inputs: Any, **shapes: tuple[int, ...]) -> Callable[[], Case]:
    return lambda: Case(apply, weights(**shapes), (inputs,))


STATES = dict(decay=(8,), turn=(8,), step=(8,), real=(6, 8), imaginary=(6, 8), read=(8, 7), read_i=(8, 7))
FILTERS = dict(decay=(8, 6), turn=(8, 6), step=(6,), real=(8, 6), imaginary=(8, 6), skip=(6,))
HEADS = dict(q=(8, 2, 4), k=(8, 2, 4), v=(8, 2, 4), gate=(8, 2, 4), out=(2, 4, 8), bias=(6, 2))
PAIRS = dict(left=(8, 4), right=(8, 3), outer=(4, 3, 6), edge_gate=(6, 5), edges=(6, 5), triangle=(5, 6))
GATED = dict(up=(6, 12), gate=(6, 12), forget=(3, 4, 4), input=(3, 4, 4), rate=(12,), down=(12, 6))
STYLES = dict(style1=(9, 6), kernel1=(3, 3, 6, 8), style2=(9, 8), kernel2=(3, 3, 8, 10), colours=(10, 3))
ATOMS = dict(one=(6, 5), two=(5, 8), mix=(8, 7), back=(7, 6), up=(6, 5), down=(5, 1))
SIDE = dict(first=(3, 3, 3, 16), down=(3, 3, 16, 8), up=(3, 3, 24, 8), shortcut=(24, 8), last=(3, 3, 24, 3))
SELECT = {"in": (6, 24), "taps": (3, 12), "select": (12, 13), "step": (3, 12), "bias": (12,), "decay": (12, 5)}
MODELS: dict[str, Callable[[], Case]] = {
    "S5": case(each(state_space), SERIES, **{"in": (3, 6)}, **STATES, out=(7, 2)),
    "S4D": case(each(state_space_filters), SERIES, **{"in": (3, 6)}, **FILTERS, out=(6, 2)),
    "Mamba": case(each(selective), tokens(7, 11), table=(11, 6), **SELECT, skip=(12,), out=(12, 6)),
    "Griffin": case(each(recurrent_unit), SERIES, **{"in": (3, 6)}, **GATED, out=(6, 2)),
    "Fourier neural operator": case(
        neural_operator, images(8), lift=(3, 6), real=(3, 3, 6, 7), imaginary=(3, 3, 6, 7), skip=(6, 7), up=(7, 9),
        down=(9, 1),
    ),
    "Evoformer": case(
        each(evoformer), (vectors(2, 3, 4, 5), vectors(2, 4, 4, 4)), rows=(5, 8), pairs=(4, 6), **HEADS, **PAIRS,
        row_head=(8, 4), pair_head=(6, 3),
    ),
    "world model of Dreamer": case(
        each(world_model), vectors(2, 4, 5), **{"in": (20, 8)}, blocks=(4, 12, 12), post=(21, 9), codes=(9, 15),
        up=(31, 10), down=(10, 2),
    ),
    "StyleGAN2": case(generator, vectors(3, 5), map=(5, 9), constant=(1, 4, 4, 6), **STYLES),
    "cellular automaton": case(automaton, images(6, channels=4), up=(48, 20), down=(20, 16)),
    "capsules": case(each(capsules), vectors(4, 5), **{"in": (5, 24)}, votes=(6, 3, 4, 5), up=(15, 9), down=(9, 2)),
    "U-Net of score matching": case(score, images(6), **SIDE, scale1=(16,), scale2=(24,), scale3=(24,)),
    "SchNet with forces": case(each(forces), vectors(2, 4, 3), table=(4, 6), **{"in": (6, 8)}, **ATOMS),
    "Lagrangian network": case(each(mechanics), vectors(3, 4), one=(4, 8), two=(8, 7), out=(7, 1)),
    "equilibrium": case(each(equilibrium), vectors(4, 3), **{"in": (3, 8)}, turn=(8, 8), out=(8, 2)),
    "experts with places": case(
        experts, vectors(6, 4), **{"in": (4, 6)}, gate=(6, 4), up=(4, 6, 8), down=(4, 8, 6), out=(6, 2)
    ),
    "experts by ragged products": case(
        sorted_experts, vectors(6, 4), **{"in": (4, 6)}, gate=(6, 4), up=(4, 6, 8), down=(4, 8, 6), out=(6, 2)
    ),
}  # fmt: skip
