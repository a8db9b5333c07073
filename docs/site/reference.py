"""What the reference is told that the sources do not say as its tools expect."""

import re
from typing import Any

from griffe import Alias, Extension, Module, Object

# Markdown takes `>>>` for a quotation inside of a quotation inside of another
EXAMPLE = re.compile(r"(?:^|(?<=\n\n))(>>> .*?)(?=\n\n|\Z)", re.DOTALL)

LAZILY = "lazily"


class Examples(Extension):
    """Fence the paragraphs of docstrings that are examples."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\1\n```", obj.docstring.value)


class Public(Extension):
    """What a package gives under which name."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Called for dwalign once all of it is read."""
        for package in (pkg, *pkg.modules.values()):
            if LAZILY in package.members:
                # all other aliases are those of its stub
                package.exports = [name for name, one in package.members.items() if one.is_alias and name != LAZILY]
            for name, module in list(package.modules.items()):
                # `from dwalign.matching.naive import naive` hides the module behind the function
                if name in (package.exports or ()) and name in module.members:
                    package.set_member(name, Alias(name, module[name], parent=package))
