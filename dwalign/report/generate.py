"""Tables in markdown documents, filled in from results files so that nobody types a number.

A document says where a table goes:

    <!-- results: results/mlp-digits.json -->
    <!-- /results -->

and `python -m dwalign.report README.md docs/*.md` writes what stands between. In place of `results:` also `recovery:`
for planted recovery, `series:` for what was measured at several settings, `maps:` for what distances tell, `coverage:`
for the models of others that were read, `merging:` for the merging of many networks (all, or the one named behind the
path), `repair:` for what REPAIR wins back, `forecast:` for barriers that were forecast, `chance:` for how often
partners are the right ones, `paper:` for our figures beside those in results/paper.json (of the experiment of that
name, or of one named behind the path), and `methods:` for what methods need, reach and cost in several results files
(of those named behind the paths, or of all).
Paths are looked up from the folder of the document upwards. Marks inside fenced code are left alone.
"""

import re
from collections.abc import Callable
from pathlib import Path

from dwalign.report.chance import chance_table
from dwalign.report.choice import choice_table
from dwalign.report.coverage import coverage_table
from dwalign.report.forecast import forecast_table
from dwalign.report.maps import maps_table
from dwalign.report.merging import merging_table, repair_table
from dwalign.report.paper import paper_table
from dwalign.report.recovery import recovery_table
from dwalign.report.results import read_json, read_results, write_whole
from dwalign.report.schema import ResultsError
from dwalign.report.series import series_table
from dwalign.report.tables import markdown_table

TABLES: dict[str, Callable[..., str]] = {
    "results": lambda file: markdown_table(read_results(file)),
    "recovery": lambda file: recovery_table(read_json(file)),
    "maps": lambda file: maps_table(read_json(file)),
    "coverage": lambda file: coverage_table(read_json(file)),
    "merging": lambda file, *name: merging_table(read_json(file), *name),
    "repair": lambda file: repair_table(read_json(file)),
    "forecast": lambda file: forecast_table(read_json(file)),
    "chance": lambda file: chance_table(read_json(file)),
    "series": lambda file: series_table(read_json(file)),
    "paper": lambda file, *name: paper_table(read_results(file), read_json(file.with_name("paper.json")), *name),
    "methods": lambda *words: choice_table(
        [read_results(word) for word in words if isinstance(word, Path)],
        [word for word in words if not isinstance(word, Path)],
    ),
}
OPEN = re.compile(rf"<!--\s*({'|'.join(TABLES)}):\s*(\S.*?)\s*-->")
CLOSE = re.compile(rf"<!--\s*/({'|'.join(TABLES)})\s*-->")


def fill(text: str, *, folder: Path, name: str = "document") -> str:
    """The text of a document in `folder` with every table renewed; `fill` of the result changes nothing.

    Raises:
      ResultsError: a mark without its partner, or a results file that is missing or broken; the message gives the line.
    """
    out: list[str] = []
    opened, fenced = None, False
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        mark = line.strip()
        fenced ^= opened is None and mark.startswith(("```", "~~~"))
        start, end = (None, None) if fenced else (OPEN.fullmatch(mark), CLOSE.fullmatch(mark))
        if (start and opened is not None) or (end and opened is None):
            raise ResultsError(
                f"{name}, line {number}: {mark} must follow {'a table that is closed' if start else 'its opening mark'}"
                f"; found {f'one open since line {opened}' if start else 'none'}"
            )
        if start:
            opened = number
            kind, words = start.groups()
            where = f"{name}, line {number}"
            table = TABLES[kind](*(_find(w, folder, where) if w.endswith(".json") else w for w in words.split()))
            out.append(f"{line.rstrip()}\n\n{table}\n\n")
        elif end:
            opened = None
        if opened is None:
            out.append(line)
    if opened is not None:
        raise ResultsError(f"{name}, line {opened}: a table must be closed by <!-- /results -->, found none")
    return "".join(out)


def _find(path: str, folder: Path, where: str) -> Path:
    for parent in (folder, *folder.parents):
        if (parent / path).is_file():
            return parent / path
    raise ResultsError(f"{where}: {path} must be a results file in {folder} or above it, found none")


def generate(files: list[str], *, check: bool = False) -> list[str]:
    """Renew the tables of the documents; with `check` write nothing. Returns the documents that were stale.

    Raises:
      ResultsError: see `fill`; then nothing is written at all.
    """
    stale = {}
    for file in files:
        path = Path(file)
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ResultsError(f"{file} must be a markdown document that can be read: {error}") from error
        new = fill(text, folder=path.resolve().parent, name=file)
        if new != text:
            stale[file] = new
    if not check:
        for file, new in stale.items():
            write_whole(file, new)
    return list(stale)
