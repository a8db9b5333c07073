"""Each model in a process that may crash, hang or be killed for memory without taking the others along."""

import importlib
import multiprocessing
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any


def judged(
    jobs: Sequence[tuple[str, str]], seconds: float, **options: Any
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The row of every `(package, model)`, in order; models of one package share a process as long as it lives."""
    worker, home = None, None
    try:
        for package, model in jobs:
            if worker is not None and (home != package or not worker[0].is_alive()):
                _end(worker)
                worker = None
            if worker is None:
                worker, home = _begin(package, options), package
            process, pipe = worker
            try:
                pipe.send(model)
                if pipe.poll(seconds):
                    row = pipe.recv()
                else:
                    _end(worker)
                    row, worker = _failed(f"took longer than {seconds:g} seconds"), None
            except (EOFError, OSError):
                process.join(10)
                _end(worker)
                row, worker = _failed(f"its process ended with status {process.exitcode}"), None
            yield package, model, row
    finally:
        _end(worker)


def _begin(package: str, options: dict[str, Any]):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(package, theirs, options), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _end(worker) -> None:
    if worker is not None:
        process, pipe = worker
        pipe.close()
        process.kill()
        process.join()


def _failed(message: str) -> dict[str, Any]:
    return {"verdict": "failed", "message": message}


def _work(package: str, pipe, options: dict[str, Any]) -> None:
    import jax

    # numba asks whether there is a package of this name, and would find the script
    sys.modules["coverage"] = None  # type: ignore[assignment]
    from covered.verdict import judge, judge_kinds

    judge = judge_kinds if options.pop("kinds") else judge
    models = importlib.import_module(f"covered.{package}").MODELS
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        try:
            case = models[name]()
            # what cannot be traced at all says nothing about dwalign
            jax.eval_shape(case.apply, case.params, *case.inputs)
            try:
                row = judge(case, **options)
            except Exception as error:
                row = _failed(_last(error))
        except Exception as error:
            row = {"verdict": "not built", "message": _last(error)}
        pipe.send(row)
        jax.clear_caches()


def _last(error: Exception) -> str:
    """The message, and where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{frame.filename.split('site-packages/')[-1]}:{frame.lineno}"
    return f"{type(error).__name__}: {str(error)[:400]} ({where})"
