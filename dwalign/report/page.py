"""One HTML page of a merge or of an experiment, that needs nothing beside it: no network, no scripts, no files."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import dwalign
from dwalign.report.experiments import (
    chance_story,
    coverage_story,
    forecast_story,
    maps_story,
    merging_story,
    methods_story,
    paper_story,
    recovery_story,
    series_story,
)
from dwalign.report.html import document, element
from dwalign.report.merged import merge_story, recipe_story
from dwalign.report.schema import ResultsError
from dwalign.report.story import Story

# by what tells a kind of results from the others
STORIES: dict[str, Callable[[Mapping[str, Any]], Story]] = {
    "found": recipe_story,
    "moving": merge_story,
    "methods": methods_story,
    "panels": series_story,
    "recovery": recovery_story,
    "maps": maps_story,
    "models": coverage_story,
    "repair": merging_story,
    "lines": forecast_story,
    "reliability": chance_story,
    "experiments": paper_story,
}


def page(results: Mapping[str, Any]) -> str:
    """The page of any results file, of what a merge found, or of its recipe.

    A sentence says how it went; tables, figures (SVG in the page itself) and the setting follow. Every text is shown as
    text, whatever it holds.

    Args:
      results: content of results.json, of another file in results/, or of OUTPUT.recipe.yaml or the `found` in it.

    Raises:
      ResultsError: it is none of these, or broken.
      ImportError: matplotlib is not installed.
    """
    if not isinstance(results, Mapping):
        raise ResultsError(f"results must be an object, found {type(results).__name__}")
    kind = next((key for key in STORIES if key in results), None)
    if kind is None:
        raise ResultsError(f"results must hold one of {list(STORIES)}, found {sorted(map(str, results))}")
    # halves of characters, as names of files may hold, cannot be written
    results = json.loads(json.dumps(results, ensure_ascii=False, default=str).encode("utf-8", "replace"))
    try:
        title, lead, sections = STORIES[kind](results)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"results with {kind!r} must be as dwalign writes them, but {type(error).__name__}: {error}"
        ) from error
    made_by = element("footer", f"dwalign {dwalign.__version__}")
    return document(title, element("h1", title), element("p", lead, class_="lead"), *sections, made_by)
