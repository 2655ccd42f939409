"""Finds data sets, GANs and classifiers by module name, so that a new one is a new file and nothing else."""

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from pneumojax.errors import BadInput


def names(package: str, attribute: str) -> list[str]:
    """The modules of a package that define `attribute`."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return [m.name for m in found if hasattr(importlib.import_module(f"{package}.{m.name}"), attribute)]


def load(package: str, name: str, attribute: str, field: str) -> ModuleType:
    """The module `name` of a package. Errors: BadInput, which names the field and what there is to choose from."""
    full_name = f"{package}.{name}"
    if name.isidentifier() and importlib.util.find_spec(full_name):
        module = importlib.import_module(full_name)
        if hasattr(module, attribute):
            return module
    raise BadInput(f"{field}={name!r} is not known here; use one of {', '.join(names(package, attribute))}")
