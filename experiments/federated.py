"""Federated averaging with and without alignment: accuracy against rounds and bytes (the paper's motivation).

    python experiments/federated.py                                 digits, 8 clients, some minutes on 2 CPU cores
    python experiments/federated.py --dataset mnist --data-dir DIR
    python experiments/federated.py --preset smoke                  a check in a minute

Clients hold different classes in different shares (Dirichlet, Hsu et al. 2019). In each round every client trains the
network that the server sent on its own data, and the server averages what comes back (FedAvg, McMahan et al. 2017).
Clients either start from one network or each from its own, as those do that trained before they met; then alignment is
what makes an average of them meaningful. The server aligns each network to the mean of those before it, by weights
alone, or on inputs without labels that belong to no client; refinement takes the clients' mean answers for labels.
Writes runs/federated-<dataset>/: config.json, results.json, rounds.png.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from tqdm import tqdm

from dwalign import report, zoo
from dwalign.bounds import Count, Positive, settings
from dwalign.evaluation import assess
from dwalign.matching import Method, activation_matching_correlation, chain, naive, refine, weight_matching
from dwalign.merging import merge_many
from dwalign.networks import build
from dwalign.program import Data, Network
from dwalign.symmetry import take_networks

PyTree = Any


@settings
class Config:
    """Train one network on the data of many clients, who send weights and keep their data."""

    dataset: Literal["digits", "mnist", "photo_patches"] = "digits"
    data_dir: str | None = None
    """where TFDS keeps prepared data; TFDS's own default if not given."""
    preset: Literal["smoke", "default"] = "default"
    clients: Count = 8
    concentration: Positive = 0.3
    """of the Dirichlet distribution that shares each class out to clients; small is far from equal shares."""
    rounds: Count = 16
    epochs: Count = 5
    """of each client in each round."""
    first_epochs: Count = 40
    """of the first round, after which the clients meet."""
    batch_size: Count = 32
    learning_rate: Positive = 2e-3
    public: Count = 256
    """inputs without labels that the server has."""
    seeds: Count = 3
    """of data, starts and order."""
    out: str = "runs"


class Setting(NamedTuple):
    """One way to train together: whether clients start from one network, how the server aligns, and how often.

    After the first round all networks come from one, and alignment may do harm.
    """

    shared: bool
    method: Method
    aligned: int | None = None

    @property
    def label(self) -> str:
        start = "one start" if self.shared else "own starts"
        once = " in the first round" if self.aligned == 1 else ""
        return start if self.method == naive else f"{start}, {self.method.label}{once}"


SETTINGS = (
    Setting(True, naive),
    Setting(True, weight_matching),
    Setting(False, naive),
    Setting(False, weight_matching),
    Setting(False, activation_matching_correlation),
    Setting(False, weight_matching, 1),
    Setting(False, activation_matching_correlation, 1),
    Setting(False, chain(activation_matching_correlation, refine), 1),
)


def split(data: Data, classes: int, clients: int, concentration: float, rng: np.random.Generator) -> Data:
    """Data of each client, `[clients, m, ...]`: those who got less than the most repeat what they have."""
    owners = np.empty(len(data.labels), int)
    for label in range(classes):
        here = rng.permutation(np.flatnonzero(data.labels == label))
        shares = rng.dirichlet(np.full(clients, concentration))
        ends = np.round(np.cumsum(shares) * len(here)).astype(int)[:-1]
        for client, part in enumerate(np.split(here, ends)):
            owners[part] = client
    parts = [rng.permutation(np.flatnonzero(owners == client)) for client in range(clients)]
    # a client without any example takes one of another's
    parts = [part if len(part) else rng.integers(len(owners), size=1) for part in parts]
    most = max(map(len, parts))
    index = np.stack([np.resize(part, most) for part in parts])
    return Data(data.inputs[index], data.labels[index])


def trainings(config: Config, network: Network, clients: Data) -> tuple[Callable, Callable]:
    """The first round of all clients at once, and a later one: `(networks, keys, numbers of clients) -> networks`."""
    recipes = (zoo.Recipe(n, config.batch_size, config.learning_rate) for n in (config.first_epochs, config.epochs))
    first, later = (jax.jit(jax.vmap(zoo.train_further(network, clients, one, signals=True))) for one in recipes)
    return first, later


def train_together(
    config: Config,
    network: Network,
    setting: Setting,
    train: tuple[Callable, Callable],
    public: Any,
    judge: Callable,
    seed: int,
) -> list[float]:
    """Accuracy on the test set after each round; `train` as `trainings` gives them."""
    key, (first, later) = jax.random.key(seed), train
    each = jnp.arange(config.clients)
    starts = jax.random.split(jax.random.fold_in(key, 0), config.clients)
    networks = jax.vmap(network.init)(starts[jnp.zeros_like(each)] if setting.shared else starts)
    found = []
    for number in range(config.rounds):
        keys = jax.random.split(jax.random.fold_in(key, number + 1), config.clients)
        networks = (later if number else first)(networks, keys, each)
        members = [take_networks(networks, k) for k in range(config.clients)]
        answers = jnp.mean(jnp.stack([network.apply(params, public) for params in members]), 0)
        data = Data(public, jnp.argmax(answers, -1))
        method = setting.method if setting.aligned is None or number < setting.aligned else naive
        one = merge_many(network, members, method, how="running_mean", data=data, key=key).params
        found.append(float(judge(one)))
        networks = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (config.clients, *leaf.shape)), one)
    return found


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    smoke = dict(clients=3, rounds=2, epochs=1, first_epochs=5, seeds=1, public=64)
    return tyro.cli(
        Config,
        args=args,
        default=Config(**(smoke if first.preset == "smoke" else {}), preset=first.preset),
        description=__doc__,
    )


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    data = zoo.load(config.dataset, data_dir=config.data_dir)
    widths = dict(digits=[32] * 3, mnist=[128] * 3, photo_patches=[128] * 3)[config.dataset]
    flat = lambda part: Data(part.inputs.reshape(len(part.inputs), -1), part.labels)
    train, validation, test = (flat(part) for part in (data.train, data.validation, data.test))
    network = build(dict(kind="mlp", inputs=train.inputs.shape[1], widths=widths, outputs=data.classes))
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("data_dir", "out")}
    folder = report.open_run(Path(config.out) / f"federated-{config.dataset}", settings)
    test = jax.tree.map(jnp.asarray, test)
    judge = jax.jit(lambda params: assess(network, params, test).accuracy)
    public = jnp.asarray(validation.inputs[: config.public])

    curves: dict[str, list[list[float]]] = {setting.label: [] for setting in SETTINGS}
    with tqdm(total=config.seeds * len(SETTINGS), unit="run") as bar:
        for seed in range(config.seeds):
            rng = np.random.default_rng(seed)
            clients = split(train, data.classes, config.clients, config.concentration, rng)
            train_clients = trainings(config, network, clients)
            for setting in SETTINGS:
                run = train_together(config, network, setting, train_clients, public, judge, seed)
                curves[setting.label].append(run)
                bar.update()

    numbers = [k + 1 for k in range(config.rounds)]
    shown = [k for k in numbers if k & (k - 1) == 0 or k == config.rounds]
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(network.params))
    sent = 2 * config.clients * size
    results = {
        "experiment": f"federated-{config.dataset}",
        "config": settings,
        "environment": report.environment(),
        "axis": "rounds",
        "settings": shown,
        "panels": {
            "test accuracy": {
                label: {str(k): report.point([[run[k - 1] for run in runs]]) for k in shown}
                for label, runs in curves.items()
            }
        },
        "bytes_per_round": sent,
        "curves": curves,
        "caption": f"federated-{config.dataset}: means and 95 % intervals over {config.seeds} seeds of data and "
        f"starts; {config.clients} clients; every round sends {sent / 1e6:.3g} MB in all, whatever the server "
        "does with it.",
    }
    report.write_json(folder / "results.json", results)
    report.series_figure(results, folder / "rounds.png")
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
