"""Pages in a real browser: they show, say nothing on the console and ask for nothing."""

import shutil
import subprocess

import matplotlib.pyplot as plt
import pytest

from tests.report.test_page import Reader

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run --hide-scrollbars "
    "--enable-logging=stderr --dump-dom"
).split()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the path: apt-get install chromium")


def show(text, folder, *, dark=False, width=1000):
    """The elements that the browser made, its picture, and what it said on the console."""
    file, picture = folder / "page.html", folder / "page.png"
    file.write_text(text)
    done = subprocess.run(
        [
            BROWSER,
            *QUIET,
            # nothing is reached, not by the browser itself either
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},1200",
            f"--screenshot={picture}",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    return Reader(done.stdout), plt.imread(picture)[..., :3], said


def test_an_experiment(results, experiment_page, tmp_path):
    read, pixels, said = show(experiment_page, tmp_path)
    assert not said
    assert read.texts["h2"] == [
        "Targets",
        "Methods",
        "The way from one network to the other",
        "Quality against time",
        "How it was measured",
    ]
    assert read.tags.count("svg") == 2 and read.tags.count("clippath") and "Deep-Align" in read.texts["text"]
    assert read.tags.count("tr") >= 2 + len(results["methods"]) + len(results["targets"])
    assert pixels.mean() > 0.8 and pixels.std() > 0.05
    assert pixels[300:900].std() > 0.05, "not the head alone"


def test_a_merge_at_night_on_a_telephone(merge_page, tmp_path):
    read, pixels, said = show(merge_page, tmp_path, dark=True, width=500)
    assert not said
    assert "script" not in read.tags and read.tags.count("svg") == 3
    assert "How well it does" in read.texts["h2"] and "What was matched" in read.texts["h2"]
    assert pixels.mean() < 0.3 and pixels.std() > 0.05
    assert pixels.max() > 0.8, "light letters"


def test_the_browser_tells_what_a_page_asks_for(merge_page, tmp_path):
    """Or the tests above could not fail; and what came in by other ways would neither be loaded nor run."""
    asking = '<img src="http://localhost:9/x.png"><script>document.title = "run"</script></body>'
    read, _, said = show(merge_page.replace("</body>", asking), tmp_path)
    assert len(said) == 2 and "localhost:9" in said[0] and "script" in said[1]
    assert read.texts["title"] == ["merged.safetensors"]
