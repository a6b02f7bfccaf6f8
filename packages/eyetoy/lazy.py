"""Packages whose names are imported when they are first used: `import eyetoy` alone takes no time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for the `__init__.py` of a package (PEP 562).

    Type checkers do not see through them: the same imports belong under `if TYPE_CHECKING`.

    Args:
        package: its `__name__`.
        names: by module of the package, without the package's name, the names that come from there. The modules are
            attributes of the package as well, as if they had been imported.
    """
    homes = {name: module for module, members in names.items() for name in members}

    def get(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        elif name in names:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        setattr(sys.modules[package], name, value)  # the next time, nobody asks here
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *homes, *names})
