"""What a page says: a title, a sentence on how it went, and sections."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dwalign.report.html import Element, element, section, table


class Story(NamedTuple):
    """Attributes:
    title: of the page.
    lead: says in words how it went.
    sections: in order.
    """

    title: str
    lead: str
    sections: Sequence[Element]


def settings_rows(values: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    """Settings by their names, nested ones as `networks.train`."""
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += settings_rows(value, f"{prefix}{name}.")
        else:
            rows.append([f"{prefix}{name}", _shown(value)])
    return rows


def made_with(results: Mapping[str, Any]) -> list[Element]:
    """A section on the machine, the zoo and the options of a run, as far as they are known."""
    versions = lambda value: ", ".join(f"{name} {version}" for name, version in value.items() if version)
    where = [
        [name, versions(value) if isinstance(value, Mapping) else _shown(value)]
        for name, value in results.get("environment", {}).items()
    ]
    parts = [table([["", "value"], *where])] if where else []
    for summary, key in (("the networks", "zoo"), ("the options of the run", "config")):
        if rows := settings_rows(results.get(key, {})):
            parts.append(element("details", element("summary", summary), table([["setting", "value"], *rows])))
    return [section("How it was measured", *parts)] if parts else []


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
