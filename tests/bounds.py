"""Are the bounds in setup.cfg true? The package is built and tried in environments of its own, which are thrown away.

    make bounds                           lowest versions on the first Python, newest on each; wheel, sdist; JAX between
    make bounds ARGS="--only lowest"      one of them
    make bounds ARGS="--pythons python3.13"

Each holds the built wheel with its extras, and runs a selection of the tests on it, not on the tree; then the specs of
random programs are compared with those of the first: programs that another version of JAX has traced must read the
same. The environments of the wheel and of the sdist hold nothing else: there the command line merges two files. Writes
runs/bounds/results.json.
"""

import configparser
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import tyro

from dwalign import report

ROOT = Path(__file__).parent.parent
# torch and what needs it are pinned, or of one version that they agree upon
EXTRAS = ("train", "data", "many", "figures", "keras", "equinox", "haiku")
TRIED_WITH = ("chex", "hypothesis", "pytest")
# of each part some that are quick and meet its dependencies
TESTS = """
    tests/files/test_formats.py tests/files/test_checksums.py tests/test_apply.py tests/symmetry/test_spec.py
    tests/program/test_capture.py tests/matching/test_weight.py tests/merging/test_two.py tests/deepalign/test_loop.py
    tests/assignment/test_soft.py tests/zoo/test_photo_patches.py tests/zoo/test_records.py
    tests/report/test_figures.py tests/frontends/test_equinox.py tests/frontends/test_haiku.py
    tests/frontends/test_keras.py tests/program/test_inference.py
""".split()
PROGRAMS = 300
ALONE = """
import numpy as np, dwalign
from dwalign import cli, files
for k in range(2):
    rng = np.random.default_rng(k)
    shapes = {"layers_0/bias": 6, "layers_0/kernel": (4, 6), "layers_2/bias": 3, "layers_2/kernel": (6, 3)}
    files.write_weights(f"{k}.safetensors", {f"params/{n}": rng.normal(size=s).astype("f") for n, s in shapes.items()})
open("net.py", "w").write('''
import flax.linen as nn, numpy as np
def make():
    return nn.Sequential([nn.Dense(6), nn.relu, nn.Dense(3)]), np.zeros((2, 4), np.float32)
''')
merge = ["merge", "0.safetensors", "1.safetensors", "--network", "net.py:make", "--output", "both.safetensors"]
assert cli.main(merge) == 0 and len(files.open_weights("both.safetensors")) == 4
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Try the bounds of all dependencies."""

    pythons: tuple[str, ...] = ("python3.11", "python3.12", "python3.13")
    between: tuple[str, ...] = ("0.11",)
    """minor versions of JAX that are neither the lowest nor the newest, on the middle Python"""
    only: tuple[str, ...] = ()
    """environments whose name begins with one of these"""
    out: str = "runs"
    resume: bool = False
    """keep the environments that an earlier run has tried, and try the others"""


class Environment:
    """A virtual environment in a folder."""

    def __init__(self, folder: Path, python: str):
        self.folder, self.python = folder, folder / "venv" / "bin" / "python"
        # neither the tree nor what was installed beside it is seen from there
        self.variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.run(python, "-m", "venv", folder / "venv")

    def run(self, *command: Any) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [str(word) for word in command], cwd=self.folder, env=self.variables, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{command[:4]} ended with {done.returncode}\n{_last(done.stdout + done.stderr)}")
        return done

    def install(self, *what: str | Path) -> None:
        self.run(self.python, "-m", "pip", "install", "--quiet", "--no-compile", *what)

    def versions(self) -> dict[str, str]:
        listed = self.run(self.python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check").stdout
        there = {one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(listed)}
        return {name: there[name] for name, _ in lowest() if name in there}


def lowest() -> list[str]:
    """What setup.cfg says that a dependency must at least be, as what it must be."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    said = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return sorted(set(re.findall(r"^([\w.-]+)>=([\w.]+)", "\n".join(said), re.MULTILINE)))


def tried(name: str, python: str, built: Path, folder: Path) -> dict[str, Any]:
    """Make an environment, and say what came of it: versions, how many tests passed, failed and were skipped, specs."""
    there = Environment(folder, python)
    if name in ("wheel", "sdist"):
        there.install(next(built.glob("*.whl" if name == "wheel" else "*.tar.gz")))
        there.run(there.python, "-c", ALONE + "assert 'site-packages' in dwalign.__file__")
        return {"passed": 1, "versions": there.versions()}
    bounds = [f"{package}=={version}" for package, version in lowest()] if name.startswith("lowest") else []
    bounds += [f"jax=={minor}.*" for minor in re.findall(r"^JAX ([\d.]+)", name)]
    (folder / "constraints.txt").write_text("\n".join(bounds) + "\n")
    wheel = next(built.glob("*.whl"))
    there.install("-c", folder / "constraints.txt", f"{wheel}[{','.join(EXTRAS)}]", *TRIED_WITH)
    shutil.copytree(ROOT / "tests", folder / "tests")
    shutil.copy(ROOT / "setup.cfg", folder)
    options = ["-p", "no:cacheprovider", "--tb=line", "-o", "testpaths=tests"]
    done = subprocess.run(
        [there.python, "-m", "pytest", *options, *TESTS],
        cwd=folder, env=there.variables, capture_output=True, text=True,
    )  # fmt: skip
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    if done.returncode and not counts.get("failed"):
        raise RuntimeError(f"the tests ended with {done.returncode}\n{_last(done.stdout + done.stderr)}")
    specs = there.run(there.python, "-m", "tests.fuzz.specs", PROGRAMS).stdout.split()
    log = done.stdout.splitlines()[-40:] if done.returncode else []
    return {**counts, "versions": there.versions(), "specs": specs, "log": log}


def _last(text: str) -> str:
    said = [line for line in text.strip().splitlines() if not line.startswith("WARNING")]
    return "\n".join(said[-40:])


def run(config: Config, done: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    first, middle = config.pythons[0], config.pythons[len(config.pythons) // 2]
    places = {"wheel": first, "sdist": first, f"lowest, {Path(first).name}": first}
    places |= {f"newest, {Path(python).name}": python for python in config.pythons}
    places |= {f"JAX {minor}, {Path(middle).name}": middle for minor in config.between}
    with tempfile.TemporaryDirectory() as above:
        built = Path(above) / "built"
        builder = Environment(Path(above), first)
        builder.install("build")
        shutil.copytree(ROOT, Path(above) / "source", ignore=shutil.ignore_patterns(".*", "runs", "build", "results"))
        builder.run(builder.python, "-m", "build", "--outdir", built, "source")
        for name, python in places.items():
            if name in done or (config.only and not name.startswith(config.only)):
                continue
            print(f"{name} ...", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                try:
                    yield name, tried(name, python, built, Path(folder))
                except (OSError, RuntimeError) as error:
                    yield name, {"fault": str(error)}


def alike(found: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many random programs have the specs that the first environment reads."""
    specs = {name: one["specs"] for name, one in found.items() if "specs" in one}
    first = next(iter(specs.values()), [])
    return {name: sum(a == b for a, b in zip(first, one, strict=True)) for name, one in specs.items()}


def summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    outcomes = {
        **{what: {name: one.get(what, 0) for name, one in found.items()} for what in ("passed", "failed", "skipped")},
        "same specs": alike(found),
    }
    panels = {what: {name: report.point([[count]]) for name, count in of.items()} for what, of in outcomes.items()}
    jax = "; ".join(f"{name}: {one['versions']['jax']}" for name, one in found.items() if "versions" in one)
    return {
        "experiment": "bounds",
        "axis": "environment",
        "settings": list(found),
        "whole": True,
        "panels": {what: {what: of} for what, of in panels.items()},
        "environments": found,
        "caption": "tests in each environment; merging two files is the one of wheel and sdist. Random programs, of "
        f"{PROGRAMS}, whose specs are those that the first environment reads. JAX: {jax}.",
    }


def main(config: Config) -> dict[str, Any]:
    folder = report.open_run(Path(config.out) / "bounds", {"pythons": list(config.pythons)}, resume=config.resume)
    file = folder / "results.json"
    found: dict[str, dict[str, Any]] = report.read_json(file)["environments"] if file.exists() else {}
    found = {name: one for name, one in found.items() if "fault" not in one and not one.get("failed")}
    results: dict[str, Any] = {}
    for name, one in run(config, found):
        found[name] = one
        results = summary(found)
        report.write_json(file, results)
        said = {key: value for key, value in one.items() if key not in ("versions", "specs")}
        print(f"{name}: {one.get('fault') or said}", flush=True)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    found = main(tyro.cli(Config, description=__doc__))["environments"]
    fits = all("fault" not in one and not one.get("failed") for one in found.values())
    sys.exit(not fits or any(count < PROGRAMS for count in alike(found).values()))
