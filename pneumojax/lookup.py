"""Finds data sets, GANs and classifiers by module name, so that a new one is a new file and nothing else."""

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from pneumojax.errors import BadInput


def names(package: str, attributes: str) -> list[str]:
    """The modules of a package that define all `attributes`, a text with blanks between the names."""
    found = [m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    modules = {name: importlib.import_module(f"{package}.{name}") for name in found}
    return [name for name in found if all(hasattr(modules[name], a) for a in attributes.split())]


def load(package: str, name: str, attributes: str, field: str) -> ModuleType:
    """The module `name` of a package, which defines all `attributes` (see `names`).

    Errors: BadInput, which names the field, what the module lacks, and what there is to choose from.
    """
    full_name, why = f"{package}.{name}", " is not known here"
    if name.isidentifier() and importlib.util.find_spec(full_name):
        module = importlib.import_module(full_name)
        lacking = [attribute for attribute in attributes.split() if not hasattr(module, attribute)]
        if not lacking:
            return module
        why = f": {full_name.replace('.', '/')}.py lacks {', '.join(lacking)}"
    raise BadInput(f"{field}={name!r}{why}; use one of {', '.join(names(package, attributes))}")
