"""Will it merge? Barriers forecast without labels, on architectures that the forecast has never seen.

    python experiments/will_it_merge.py                  a quarter of an hour on 2 CPU cores
    python experiments/will_it_merge.py --preset smoke   a check in a minute

Networks of each architecture are trained for a short and for a long time on digits and aligned by several methods, so
that barriers of all sizes occur. A line in logarithms is fitted on the architectures of FIT; its interval comes from
leaving out each of them in turn, with barriers on the validation images. It is tried on those of TEST, on the test
images.
Writes runs/will_it_merge/: config.json, results.json, forecast.json (what dwalign/evaluation holds), calibration.png.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from tqdm import tqdm

from dwalign import report, zoo
from dwalign.bounds import Count, Points, Several, settings
from dwalign.evaluation import curve, predict_barrier, traits
from dwalign.matching import activation_matching_correlation, chain, naive, refine, weight_matching
from dwalign.networks import build
from dwalign.program import Data, Network
from dwalign.symmetry import permute, take_networks

IMAGES: dict[str, Any] = dict(shape=[8, 8, 1], outputs=10)
FIT: dict[str, dict[str, Any]] = {
    **{
        f"mlp {'-'.join(map(str, widths))}": dict(kind="mlp", inputs=64, widths=widths, outputs=10)
        for widths in ([32], [16, 16], [64, 64], [32, 32, 32], [128, 128, 128], [24, 24, 24, 24])
    },
    "cnn 8-16": IMAGES | dict(kind="cnn", channels=[8, 16], widths=[32]),
    "cnn 16-32": IMAGES | dict(kind="cnn", channels=[16, 32], widths=[64]),
    "vgg": IMAGES | dict(kind="vgg", stages=[[8], [16, 16]], widths=[]),
    "mixer": IMAGES | dict(kind="mixer", patch=2, dim=16, depth=1, tokens=16, width=32),
}
TEST: dict[str, dict[str, Any]] = {
    "mlp 48-96": dict(kind="mlp", inputs=64, widths=[48, 96], outputs=10),
    "mlp of five layers": dict(kind="mlp", inputs=64, widths=[32] * 5, outputs=10),
    "vgg with batch norm": IMAGES | dict(kind="vgg", stages=[[8], [16, 16]], widths=[], norm="batch"),
    "resnet with batch norm": IMAGES | dict(kind="resnet20", width=8, depth=8, norm="batch"),
    "densenet": IMAGES | dict(kind="densenet", stem=8, growth=4, layers=[2, 2]),
    "vit": IMAGES | dict(kind="vit", patch=2, dim=16, depth=1, heads=4, width=32),
}
METHODS = (
    naive,
    weight_matching,
    activation_matching_correlation,
    chain(activation_matching_correlation, refine.using(steps=5)),
)
TRAITS = {"weights": ("residual", "groups", "width"), "inputs": ("disagreement",)}
LEVEL = 0.9


@settings
class Config:
    """Forecast barriers."""

    preset: Literal["smoke", "default"] = "default"
    networks: Several = 6
    """of each architecture and length of training, aligned in disjoint pairs."""
    epochs: tuple[Count, ...] = (8, 40)
    inputs: Count = 256
    """without labels."""
    points: Points = 11
    """on the path."""
    out: str = "runs"


class Case(NamedTuple):
    """One aligned pair: its architecture and method, its barrier, and what the forecast reads."""

    architecture: str
    method: str
    epochs: int
    barrier: float
    traits: dict[str, float]


def cases(config: Config, name: str, network: Network, train: Data, judged: Data, bar: Any) -> list[Case]:
    """All pairs of one architecture, their barriers on `judged`."""
    flat = len(network.example.shape) == 2
    shaped = lambda part: Data(part.inputs.reshape(len(part.inputs), -1) if flat else part.inputs, part.labels)
    train, judged = (jax.tree.map(jnp.asarray, shaped(part)) for part in (train, judged))
    few = train.inputs[: config.inputs]
    renew = few if network.train else None
    judge = jax.jit(lambda a, b: curve(network, a, b, judged, points=config.points, renew=renew).barrier)
    found = []
    for epochs in config.epochs:
        networks = zoo.train_networks(network, train, zoo.Recipe(epochs=epochs))(jnp.arange(config.networks))
        for k in range(0, config.networks, 2):
            a, b = (take_networks(networks, i) for i in (k, k + 1))
            for method in METHODS:
                perms = method(network, a, b, key=jax.random.key(k), data=train).perms
                moved = permute(network.spec, b, perms)
                own = traits(network, a, moved, inputs=few)
                found.append(Case(name, str(method), epochs, float(judge(a, moved)), own))
        bar.update()
    return found


def fit(found: Sequence[Case], names: Sequence[str]) -> dict[str, Any]:
    """Least squares in logarithms; the interval holds LEVEL of what was left out, an architecture at a time."""

    def line(some):
        design = np.array([[1.0, *(one.traits[name] for name in names)] for one in some])
        return np.linalg.lstsq(design, np.array([_log(one.barrier) for one in some]), rcond=None)[0]

    apart = [
        _log(one.barrier) - solution[0] - sum(s * one.traits[name] for s, name in zip(solution[1:], names, strict=True))
        for left in dict.fromkeys(one.architecture for one in found)
        for solution in [line([one for one in found if one.architecture != left])]
        for one in found
        if one.architecture == left
    ]
    intercept, *slopes = line(found)
    low, high = np.quantile(apart, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    numbers = lambda values: [round(float(value), 5) for value in values]
    return {
        "intercept": numbers([intercept])[0],
        "slopes": dict(zip(names, numbers(slopes), strict=True)),
        "low": numbers([low])[0],
        "high": numbers([high])[0],
    }


def _log(barrier: float) -> float:
    return float(np.log(barrier + 0.01))


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key != "out"}
    folder = report.open_run(Path(config.out) / "will_it_merge", settings)
    data = zoo.load("digits")
    chosen = [FIT, TEST] if config.preset == "default" else [dict(list(FIT.items())[:2]), dict(list(TEST.items())[:1])]
    with tqdm(total=sum(map(len, chosen)) * len(config.epochs), unit="zoo") as bar:
        seen, unseen = (
            [case for name, kind in part.items() for case in cases(config, name, build(kind), data.train, judged, bar)]
            for part, judged in zip(chosen, (data.validation, data.test), strict=True)
        )
    lines = {kind: fit(seen, names) for kind, names in TRAITS.items()}
    report.write_json(folder / "forecast.json", lines)
    rows = []
    for kind, line in lines.items():
        for label, part in (("seen", seen), ("unseen", unseen)):
            guesses = [predict_barrier(case.traits, line) for case in part]
            inside = [g.low <= case.barrier <= g.high for g, case in zip(guesses, part, strict=True)]
            factor = [abs(_log(g.barrier) - _log(case.barrier)) for g, case in zip(guesses, part, strict=True)]
            rows.append(
                {
                    "from": kind,
                    "architectures": label,
                    "pairs": len(part),
                    "inside": round(float(np.mean(inside)), 4),
                    "factor": round(float(np.exp(np.median(factor))), 3),
                    "correlation": round(_rank_correlation([g.barrier for g in guesses], [c.barrier for c in part]), 3),
                }
            )
    results = {
        "experiment": "will_it_merge",
        "config": settings,
        "environment": report.environment(),
        "level": LEVEL,
        "lines": lines,
        "rows": rows,
        "cases": {"seen": [case._asdict() for case in seen], "unseen": [case._asdict() for case in unseen]},
    }
    report.write_json(folder / "results.json", results)
    report.forecast_figure(results, folder / "calibration.png")
    print(report.forecast_table(results))
    return results


def _rank_correlation(one: Sequence[float], two: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, two).statistic)


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    smoke = dict(networks=2, epochs=(4,), points=5) if first.preset == "smoke" else {}
    return tyro.cli(Config, args=args, default=Config(**smoke, preset=first.preset), description=__doc__)


if __name__ == "__main__":
    study.run(main, read_config)
