"""What the site shows beside the files of this folder: the figures in results/, and a page for each package."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
# a package of commands, which say of themselves what they do
NO_API = {"cli"}
PACKAGES = sorted(
    file.parent.name for file in (ROOT / "dwalign").glob("*/__init__.py") if file.parent.name not in NO_API
)
PAGE = """# dwalign{name}

::: dwalign{name}
"""


def on_config(config: MkDocsConfig) -> None:
    """A package that is new is in the navigation by itself."""
    api = next(part["API"] for part in config.nav if "API" in part)
    api += [{f"dwalign{name}": page} for name, page in _pages().items()]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """The pages that `on_config` names, and figures where documents say that they lie: beside docs/, in results/."""
    for name, page in _pages().items():
        files.append(File.generated(config, page, content=PAGE.format(name=name)))
    for figure in sorted((ROOT / "results").glob("*.png")):
        file = File.generated(
            config, f"../results/{figure.name}", abs_src_path=str(figure), inclusion=InclusionLevel.INCLUDED
        )
        file.dest_uri = f"figures/{figure.name}"
        files.append(file)


def _pages() -> dict[str, str]:
    return {"": "api/dwalign.md", **{f".{name}": f"api/{name}.md" for name in PACKAGES}}
