"""What the experiments share: options, tasks and zoos, the methods that are compared, aligners, judging and the report.

A script is a dataclass of options on top of `Options`, its presets, and a `main` that calls these in order.
"""

from study.aligners import Home, aligner_shape, open_home, train_aligners
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
from study.methods import MATCHING, Method, baselines, learned, on_own_data, optimisers, renewal, then
from study.options import PAPER, SMOKE, Options, open_folder, read_options, run
from study.tasks import CLASSIFICATION, Data, Task, make_test_zoo, make_zoo, networks_in, shrink, to_device, zoo_size

__all__ = [
    "CLASSIFICATION",
    "Data",
    "Home",
    "MATCHING",
    "Method",
    "Options",
    "PAPER",
    "PAPER_TABLE",
    "SHOWN",
    "SMOKE",
    "TARGETS",
    "Task",
    "aligner_shape",
    "baselines",
    "compare",
    "count_parameters",
    "judge",
    "learned",
    "make_test_zoo",
    "make_zoo",
    "networks_in",
    "on_own_data",
    "open_folder",
    "open_home",
    "optimisers",
    "print_paper_table",
    "read_options",
    "renewal",
    "run",
    "shrink",
    "then",
    "to_device",
    "train_aligners",
    "write_report",
    "zoo_size",
]
