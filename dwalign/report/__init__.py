from dwalign.report.chance import chance_figure, chance_table
from dwalign.report.clearness import clearness_figure, clearness_rows, make_clearness
from dwalign.report.coverage import coverage_line, coverage_table
from dwalign.report.figures import (
    interpolation_figure,
    iterations_figure,
    matrix_figure,
    quality_figure,
    training_figure,
)
from dwalign.report.forecast import forecast_figure, forecast_table
from dwalign.report.generate import fill, generate
from dwalign.report.maps import make_maps, maps_figure, maps_table
from dwalign.report.merging import merging_series, merging_table, repair_table
from dwalign.report.methods import display_name, in_order
from dwalign.report.page import page
from dwalign.report.recovery import recovery_figure, recovery_table
from dwalign.report.results import (
    environment,
    make_results,
    read_json,
    read_results,
    write_json,
    write_results,
    write_whole,
)
from dwalign.report.runs import RunError, open_run
from dwalign.report.schema import ResultsError, validate
from dwalign.report.series import point, series_figure, series_table
from dwalign.report.sharing import draw_sharing, make_sharing, sharing_figure
from dwalign.report.tables import markdown_table, text_table
from dwalign.report.targets import Target, judge

__all__ = [
    "ResultsError",
    "RunError",
    "Target",
    "chance_figure",
    "chance_table",
    "clearness_figure",
    "clearness_rows",
    "coverage_line",
    "coverage_table",
    "display_name",
    "draw_sharing",
    "environment",
    "fill",
    "forecast_figure",
    "forecast_table",
    "generate",
    "in_order",
    "interpolation_figure",
    "iterations_figure",
    "judge",
    "make_clearness",
    "make_maps",
    "make_results",
    "make_sharing",
    "maps_figure",
    "maps_table",
    "markdown_table",
    "merging_series",
    "merging_table",
    "matrix_figure",
    "open_run",
    "page",
    "point",
    "quality_figure",
    "read_json",
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
    "write_json",
    "write_whole",
]
