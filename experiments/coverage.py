"""How much of the networks of other people can dwalign read? Every model is inferred, certified and recovered.

    python experiments/coverage.py                   all models of the packages that are installed, half an hour
    python experiments/coverage.py --only 'keras/*'  some of them; `--list` shows their names

Only Flax comes with requirements.txt. The other packages are optional, and those that are missing are said so:

    pip install 'transformers==4.57.*' keras dm-haiku equinox diffrax
    pip install torch==2.14.1 torchvision==0.29.1 timm torchax==0.0.14.dev20261026
    pip install flowjax numpyro distrax jraph e3nn-jax penzai jaxkan pdequinox equimo

With --kinds it says how much symmetry there is beyond permutations.

Nothing is downloaded: all models are small and get random weights. Writes runs/coverage/ (runs/coverage-kinds/):
config.json, results.json.
"""

import fnmatch
import importlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import study
import tyro
from covered import PACKAGES
from covered.workers import judged
from tqdm import tqdm

from dwalign import report
from dwalign.bounds import Amount, Positive, settings


@settings
class Config:
    """Read, certify and recover models that others wrote."""

    only: str = "*"
    """pattern of `package/model`, as shells have them, or several with `|` between."""
    list: bool = False
    """show what there is, and do nothing."""
    seconds: Positive = 900.0
    """a model that takes longer is given up."""
    recover: Amount = 8
    """look for a hidden permutation in models of at most so many groups: it takes longer than all else."""
    kinds: bool = False
    """look at symmetries beyond permutations instead: kinds of all groups, certified; a few seconds a model."""
    out: str = "runs"
    resume: bool = False
    """go on with a run that was interrupted; what failed is tried again."""


def versions(package: str) -> dict[str, str | None]:
    """Of what the package needs; None for what is not installed."""
    found: dict[str, str | None] = {}
    for name in importlib.import_module(f"covered.{package}").NEEDS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def choose(config: Config) -> tuple[list[tuple[str, str]], list[tuple[str, str]], dict[str, str | None]]:
    """The models that are asked for and can be made, those that cannot, and the versions of what they need."""
    jobs, left, needs = [], [], {}
    for package in PACKAGES:
        models = importlib.import_module(f"covered.{package}").MODELS
        fits = lambda name: any(fnmatch.fnmatch(name.lower(), one.strip()) for one in config.only.lower().split("|"))
        asked = [name for name in models if fits(f"{package}/{name}")]
        own = versions(package) if asked else {}
        missing = [name for name, version in own.items() if version is None]
        if missing:
            left += [(package, name) for name in asked]
            print(f"{package}: {len(asked)} models are left out, since {', '.join(missing)} is not installed")
        else:
            jobs += [(package, name) for name in asked]
        needs |= own
    return jobs, left, needs


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    jobs, left_out, needs = choose(config)
    if config.list:
        print("\n".join(f"{package}/{model}" for package, model in jobs))
        return {}
    if not jobs:
        raise ValueError(f"--only must match a model of an installed package, found {config.only!r}; try --list")
    settings = {"recover": config.recover, "kinds": config.kinds}
    name = "coverage-kinds" if config.kinds else "coverage"
    folder = report.open_run(Path(config.out) / name, settings, resume=config.resume)
    # a line a model, so that an interruption loses one
    log = folder / "models.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    rows = {(row["package"], row["model"]): row for row in map(json.loads, lines) if row["verdict"] != "failed"}
    due = [(package, model) for package, model in jobs if (PACKAGES[package], model) not in rows]
    with tqdm(total=len(due), unit="model") as bar, log.open("a") as out:
        for package, model, row in judged(due, config.seconds, **settings):
            rows[PACKAGES[package], model] = {"package": PACKAGES[package], "model": model} | row
            print(json.dumps(rows[PACKAGES[package], model]), file=out, flush=True)
            bar.update()
            if row["verdict"] != "complete":
                bar.write(f"{package}/{model}: {row['verdict']} {row.get('message', '')}")
    results = {
        "experiment": name,
        "config": settings | {"only": config.only, "seconds": config.seconds},
        "environment": report.environment() | {"needs": needs},
        "left_out": [{"package": PACKAGES[package], "model": model} for package, model in left_out],
        "models": [rows[PACKAGES[package], model] for package, model in jobs],
    }
    report.write_json(folder / "results.json", results)
    print(report.coverage_line(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
