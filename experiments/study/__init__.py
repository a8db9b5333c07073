"""What the experiments share: options, zoos, the methods that are compared, aligners, judging and the report.

A script is a dataclass of options on top of `Options`, its presets, and a `main` that calls these in order.
"""

from study.aligners import Home, open_home, train_aligners
from study.judging import (
    PAPER_TABLE,
    SHOWN,
    TARGETS,
    compare,
    count_parameters,
    judge,
    print_paper_table,
    write_report,
)
from study.methods import MATCHING, baselines, learned, rebasin, refinement
from study.options import PAPER, SMOKE, Changes, Networks, Options, change, open_folder, read_options, run
from study.zoos import make_test_zoo, make_zoo, networks_in, shrink, to_device

__all__ = [
    "Changes",
    "Home",
    "MATCHING",
    "Networks",
    "Options",
    "PAPER",
    "PAPER_TABLE",
    "SHOWN",
    "SMOKE",
    "TARGETS",
    "baselines",
    "change",
    "compare",
    "count_parameters",
    "judge",
    "learned",
    "make_test_zoo",
    "make_zoo",
    "networks_in",
    "open_folder",
    "open_home",
    "print_paper_table",
    "read_options",
    "rebasin",
    "refinement",
    "run",
    "shrink",
    "to_device",
    "train_aligners",
    "write_report",
]
