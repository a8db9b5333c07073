"""Pages say how it went, show every text as text, and need nothing beside them."""

import copy
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dwalign.report import ResultsError, figures, page
from dwalign.report.page import STORIES

RESULTS = Path(__file__).parents[2] / "results"
FILES = sorted(RESULTS.glob("*.json"))
LOADING = ("src", "href", "action", "data", "poster", "srcset")


class Reader(HTMLParser):
    """What a page holds: its elements, the texts in them, and ids."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.open = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.attributes if "id" in attrs]


@pytest.fixture
def sketched(monkeypatch):
    """Figures are made, but hardly drawn: drawing takes nearly all of the time."""

    def sketch(figure, file):
        figures._pyplot().close(figure)
        file.write(b'<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt"/>')

    for module in ("chance", "clearness", "figures", "forecast", "maps", "recovery", "series", "sharing"):
        monkeypatch.setattr(f"dwalign.report.{module}._save", sketch)
    monkeypatch.setattr(figures, "place_labels", lambda *_: None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_committed_file_has_a_page(file, sketched):
    results = json.loads(file.read_text())
    read = Reader(page(results))
    assert read.texts["title"] == read.texts["h1"] and read.tags.count("h1") == 1
    assert read.tags.count("h2") >= 2 and read.tags.count("tr") > 2
    missed = [target for target in results.get("targets", []) if not target["met"]]
    marks = [text for text in read.texts.get("span", []) if text == "MISSED"]
    assert len(marks) == len(missed), "targets that are missed are shown as missed"
    assert all(target["text"] in read.texts["p"][0] for target in missed)


def test_there_is_a_file_of_every_kind():
    kinds = {next(key for key in STORIES if key in json.loads(file.read_text())) for file in FILES}
    assert kinds == STORIES.keys() - {"found", "moving"}


@pytest.mark.parametrize("name", ["questions-encoders", "inr-sines-maps"])
def test_drawn_pages_stand_alone(name):
    results = json.loads((RESULTS / f"{name}.json").read_text())
    text = page(results)
    stands_alone(text)
    assert page(results) == text, "the same results give the same page"


def stands_alone(text):
    read = Reader(text)
    assert "script" not in read.tags and "link" not in read.tags and "@import" not in text
    drawings = [attrs for tag, attrs in read.attributes if tag == "svg"]
    assert drawings and all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawings)
    for tag, attrs in read.attributes:
        for key in LOADING:
            assert attrs.get(key, "#").startswith(("#", "data:image/")), (tag, attrs)
        assert not [key for key in attrs if key.startswith("on")]
    assert "url(" not in text.replace("url(#", "")
    referred = re.findall(r'url\(#([^)"]+)\)', text) + re.findall(r'href="#([^"]+)"', text)
    assert len(set(read.ids)) == len(read.ids) and set(referred) <= set(read.ids)
    return read


def test_an_experiment(results, experiment_page):
    read = stands_alone(experiment_page)
    assert read.tags.count("svg") == 2
    assert "Deep-Align + refinement leaves the lowest barrier" in read.texts["p"][0]
    assert "1 of 2 targets are met; MISSED: barrier of Deep-Align + refinement" in read.texts["p"][0]
    heads = [attrs for tag, attrs in read.attributes if tag == "th"]
    assert {attrs["scope"] for attrs in heads} == {"col", "row"}
    barrier = results["methods"]["deep_align"]["barrier"]
    cell = f"{barrier['mean']:.3f} [{barrier['ci95'][0]:.3f}, {barrier['ci95'][1]:.3f}]"
    assert cell in read.texts["td"] and dict(read.attributes)["html"]["lang"] == "en"


def test_a_merge(merge_page):
    read = stands_alone(merge_page)
    lead = "".join(read.texts["p"])
    assert "answers 96.1 % right; its ends 97.0 and 96.8 %, the average without matching 31.0 %" in lead
    assert "adds 2 to the loss of the ends, of which matching takes away 95 %" in lead
    assert "flatters" not in lead and read.tags.count("svg") == 3
    assert {"h0", "fft", "x < y", "ab" * 32} <= {text for texts in read.texts.values() for text in texts}
    assert "4" in read.texts["td"], "a batched group says over how many"


def test_a_merge_judged_on_what_it_was_matched_on(recipe, sketched):
    del recipe["options"]["test"]
    told = lambda: "".join(Reader(page(recipe)).texts["p"])
    assert "flatters" in told()
    recipe["found"]["seen"] = False
    assert "flatters" not in told(), "the method looked at weights"


def test_a_merge_that_did_not_help_says_so(recipe, sketched):
    found = recipe["found"]
    found["judged"]["merged"]["loss"] = 2.5
    assert "Matching did not help: the loss is 2.5, and 2.25 without it" in page(found)
    found["judged"] = {}
    read = Reader(page(found))
    assert "is not known, for there were no labels" in read.texts["p"][0]
    assert "How well it does" not in read.texts["h2"]


def test_a_merge_that_is_in_doubt_says_so(recipe):
    recipe["found"] |= {"stale": "the statistics are averaged", "certified": False, "judged": {}, "curve": {}}
    lead = Reader(page(recipe)).texts["p"][0]
    assert "Stale: the statistics are averaged. Unchecked: that permuting keeps the function" in lead


@pytest.mark.parametrize("key", ["curve", "confidence", "sharing"])
def test_a_record_without_parts_has_a_page(recipe, key, sketched):
    before = page(recipe).count("<svg")
    del recipe["found"][key]
    assert page(recipe).count("<svg") == before - 1


def test_texts_stay_texts(recipe, results, merge_page):
    name = next(name for name in recipe["found"]["judged"] if name.startswith("<script>")).replace("\ud800", "?")
    read = Reader(merge_page)
    assert "script" not in read.tags
    assert name in read.texts["th"] and f"{name}, by weights" in read.texts["h3"]
    mark = "</style><script>x</script><img src=x onerror=alert(1)>"
    results["experiment"] = mark
    results["methods"][mark] = results["methods"].pop("sinkhorn")
    results["config"][mark] = {mark: [mark]}
    results["environment"]["packages"][mark] = mark
    results["targets"] = [target | {"text": mark} for target in results["targets"] if target["against"] != "sinkhorn"]
    read = stands_alone(page(results))
    assert "img" not in read.tags and read.texts["h1"] == [mark] and mark in read.texts["text"]


@pytest.mark.parametrize(
    "change", [{}, {"recovery": {}}, {"recovery": 3, "config": {}}, {"models": [{}]}, {"maps": None}]
)
def test_what_is_no_result_is_refused(change):
    with pytest.raises(ResultsError, match="must"):
        page(change)
    with pytest.raises(ResultsError, match="must be an object, found list"):
        page([change])


def test_streams_take_drawings_and_files_pictures(results, tmp_path):
    stream = io.BytesIO()
    figures.quality_figure(copy.deepcopy(results), stream)
    assert b"<svg" in stream.getvalue() and b"Deep-Align</text>" in stream.getvalue(), "text stays text"
