from dwalign.report.figures import interpolation_figure, matrix_figure, quality_figure, training_figure
from dwalign.report.results import ResultsError, Target, environment, make_results, read_results, write_results
from dwalign.report.runs import RunError, open_run
from dwalign.report.tables import markdown_table, text_table

__all__ = [
    "ResultsError",
    "RunError",
    "Target",
    "environment",
    "interpolation_figure",
    "make_results",
    "markdown_table",
    "matrix_figure",
    "open_run",
    "quality_figure",
    "read_results",
    "text_table",
    "training_figure",
    "write_results",
]
