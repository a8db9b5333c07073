from dwalign.report.coverage import coverage_line, coverage_table
from dwalign.report.figures import (
    interpolation_figure,
    iterations_figure,
    matrix_figure,
    quality_figure,
    training_figure,
)
from dwalign.report.generate import fill, generate
from dwalign.report.maps import make_maps, maps_figure, maps_table
from dwalign.report.merging import merging_series, merging_table, repair_table
from dwalign.report.methods import display_name, in_order
from dwalign.report.recovery import recovery_figure, recovery_table
from dwalign.report.results import environment, make_results, read_results, write_results, write_whole
from dwalign.report.runs import RunError, open_run
from dwalign.report.schema import ResultsError, validate
from dwalign.report.series import point, series_figure, series_table
from dwalign.report.sharing import sharing_figure
from dwalign.report.tables import markdown_table, text_table
from dwalign.report.targets import Target, judge

__all__ = [
    "ResultsError",
    "RunError",
    "Target",
    "coverage_line",
    "coverage_table",
    "display_name",
    "environment",
    "fill",
    "generate",
    "in_order",
    "interpolation_figure",
    "iterations_figure",
    "judge",
    "make_results",
    "make_maps",
    "maps_figure",
    "maps_table",
    "markdown_table",
    "merging_series",
    "merging_table",
    "matrix_figure",
    "open_run",
    "point",
    "quality_figure",
    "read_results",
    "recovery_figure",
    "recovery_table",
    "repair_table",
    "series_figure",
    "series_table",
    "sharing_figure",
    "text_table",
    "training_figure",
    "validate",
    "write_results",
    "write_whole",
]
