"""What the site shows beside the files of this folder, and what a strict build refuses.

Shown are the figures in results/, and a page for each package. Refused are public names without a docstring, which
would be on no page, and whatever a browser would fetch from elsewhere.
"""

import ast
import logging
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# a package of commands, which say of themselves what they do
NO_API = {"cli"}
PACKAGES = {
    f"dwalign.{file.parent.name}": f"api/{file.parent.name}.md"
    for file in sorted((ROOT / "dwalign").glob("*/__init__.py"))
    if file.parent.name not in NO_API
}
PAGES = {"dwalign": "api/dwalign.md", **PACKAGES}
FETCHED = re.compile(r'<(?:iframe|img|link|script)\b[^>]*(?:href|src)="https?:[^"]*"')
log = logging.getLogger("mkdocs.hooks.dwalign")


def on_config(config: MkDocsConfig) -> None:
    """A package that is new is in the navigation by itself."""
    api = next(part["API"] for part in config.nav if "API" in part)
    api += [{package: page} for package, page in PAGES.items()]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """The pages that `on_config` names, and figures where documents say that they lie: beside docs/, in results/."""
    for package, page in PAGES.items():
        files.append(File.generated(config, page, content=f"# {package}\n\n::: {package}\n"))
    for figure in sorted((ROOT / "results").glob("*.png")):
        file = File.generated(
            config, f"../results/{figure.name}", abs_src_path=str(figure), inclusion=InclusionLevel.INCLUDED
        )
        file.dest_uri = f"figures/{figure.name}"
        files.append(file)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> None:
    """Called for every page when it is written."""
    for tag in FETCHED.findall(output):
        log.warning(f"{page.file.src_uri} must be read without a network, but fetches {tag}")
    for package in (name for name, file in PACKAGES.items() if file == page.file.src_uri):
        for name in _public(ROOT / package.replace(".", "/")):
            if f'id="{package}.{name}"' not in output:
                log.warning(f"{package}.{name} must have a docstring to be on the page of its package, found none")


def _public(folder: Path) -> list[str]:
    """The names in `__all__`, or those of the stub of a package that loads them when they are asked for."""
    stub = folder / "__init__.pyi"
    if stub.exists():
        imports = (node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom))
        return [alias.name for node in imports for alias in node.names]
    assigned = (node for node in ast.parse((folder / "__init__.py").read_text()).body if isinstance(node, ast.Assign))
    return next(ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "__all__")
