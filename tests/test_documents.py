"""What documents print runs as printed; the pages of a tutorial say in invisible blocks what must come out."""

import doctest
from pathlib import Path

import jax
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "start.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]
PARSERS = [PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS), SkipParser()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_runs_as_printed(page, tmp_path, monkeypatch):
    if "import torch" in page.read_text():
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    with jax.numpy_rank_promotion("allow"):  # as JAX comes
        for example in Sybil(PARSERS).parse(page):
            example.evaluate()
