"""Finds configs, data sets, GANs, classifiers, systems and arms, so that a new one is a new file and nothing else."""

import contextlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from pneumojax.errors import BadInput, Stopped, describe

PACKAGE = Path(__file__).parent
CONFIGS = next(p for p in (PACKAGE / "configs", PACKAGE.parent / "configs") if p.is_dir())  # of a wheel, of a checkout


def config_of(path: Path, *arguments: str):
    """What `get_config` of a file gives. To it `configs` are the files beside it, those of ./configs, then ours."""
    return result_of(path, "get_config", *arguments)


def result_of(path: Path, function: str, *arguments: str):
    """What a function of a config file gives, imported as `config_of` has it; all that a generator yields."""
    spec = importlib.util.spec_from_file_location("config_file", path)
    module, configs = importlib.util.module_from_spec(spec), ModuleType("configs")
    configs.__path__ = [os.fspath(folder) for folder in (path.absolute().parent, Path("configs").absolute(), CONFIGS)]
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "configs"}
    sys.modules["configs"] = configs
    try:
        with running():
            spec.loader.exec_module(module)
            result = getattr(module, function)(*arguments)
            return list(result) if inspect.isgenerator(result) else result
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Around code of others. Errors: RuntimeError where it calls `exit()`, or 0 would say that all is well."""
    try:
        yield
    except Stopped:
        raise
    except SystemExit as end:
        raise RuntimeError(f"it ends the process by exit({end.code!r})") from end


def names(package: str, attributes: str) -> list[str]:
    """The modules of a package that define all `attributes`, a text with blanks between the names."""
    spec, found = importlib.util.find_spec(package), []
    for one in pkgutil.iter_modules(spec.submodule_search_locations if spec else ()):
        with contextlib.suppress(Exception), running():  # why it cannot be imported is told when it is looked up
            module = importlib.import_module(f"{package}.{one.name}")
            found += [one.name] if all(hasattr(module, attribute) for attribute in attributes.split()) else []
    return found


def load(package: str, name: str, attributes: str, field: str) -> ModuleType:
    """The module `name` of a package, which defines all `attributes` (see `names`).

    Errors: BadInput, which names the field, why the module cannot be used, and what there is to choose from.
    """
    full_name = f"{package}.{name}"
    module = _imported(full_name, f"{field}={name!r}") if name.isidentifier() else None
    lacking = [attribute for attribute in attributes.split() if not hasattr(module, attribute)]
    if not lacking:
        return module
    why = f": {full_name.replace('.', '/')}.py lacks {', '.join(lacking)}" if module else " is not known here"
    raise BadInput(f"{field}={name!r}{why}; use one of {', '.join(names(package, attributes))}")


def function(home: str, word: str, field: str) -> Callable:
    """The function `word` of the module `home`, or of any module where `word` is `package.module.function`.

    Errors: BadInput, which names the field and what there is to choose from.
    """
    path, _, name = word.rpartition(".")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # `python -m` has it there already
    module = _imported(path or home, f"{field}={word!r}")
    if module is None:
        raise BadInput(f"{field}={word!r}: there is no module {path} here; give package.module.function")
    own = {n: f for n, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__}
    if name not in own:
        there = ", ".join(n for n in own if not n.startswith("_")) or "no functions"
        raise BadInput(f"{field}={word!r} is not known here; {module.__name__} has {there}")
    return own[name]


def _imported(full_name: str, what: str) -> ModuleType | None:
    """A module; None where there is none of this name. Errors: BadInput for one that cannot be imported."""
    try:
        with running():
            return importlib.import_module(full_name)
    except Exception as error:  # a module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{full_name}.".startswith(f"{error.name}."):
            return None
        raise BadInput(f"{what}: {full_name} cannot be imported: {type(error).__name__}: {describe(error)}") from error
