"""What README, quick start and tutorials print runs as printed; what must come out stands in invisible blocks."""

import doctest
from pathlib import Path

import jax
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", DOCS / "start.md", DOCS / "clusters.md", *sorted((DOCS / "tutorials").glob("*.md"))]
PARSERS = [PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS), SkipParser()]


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "index"], ids=lambda page: page.stem)
def test_runs_as_printed(page, tmp_path, monkeypatch):
    if "import torch" in page.read_text():
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    examples = list(Sybil(PARSERS).parse(page))
    assert examples
    with jax.numpy_rank_promotion("allow"):  # as JAX comes
        for example in examples:
            example.evaluate()
