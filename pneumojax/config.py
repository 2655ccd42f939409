"""Configs where they enter: read from a file, completed by the modules that it names, changed by flags, checked."""

import difflib
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict, FrozenConfigDict, config_flags

from pneumojax import gan, lookup, models, paths, rules
from pneumojax.errors import BadInput, describe
from pneumojax.weights import from_scratch

PLACES = ("data.dir", "data.cache", "gan.cache", "model.cache")  # of files, which no result depends on
QUALITY = tuple(f"quality.{field}" for field in ("features", "weights", "images", "every", "inner"))
LATER = (
    "data.window",
    "gan.accumulate",
    "gan.dtype",
    "gan.seeds",
    "classifier.seeds",
    "classifier.standardise",
    "evaluate.inner",
    *QUALITY,
    "evaluate.score",
    "evaluate.margin",
)  # fields that finished runs of the same schema may be older than
GONE = ("evaluate.resamples",)  # fields that such runs may have and nothing reads any more
MAY_BE_EMPTY = ("data.dir", "gan.cache")  # where default.py says what that means


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The `get_config()` of a file, completed by the own fields of the modules that it names, valid and locked.

    Args:
      path: FILE, or FILE:ARGUMENT for `get_config(ARGUMENT)`.
      overrides: as on the command line, `--config.a.b=value` or `--config.a.b value`. The last of a field counts.

    Errors: BadInput for a file or flag that cannot be used, and for a field that is unknown or cannot be.
    """
    return completed(read(path), overrides)


def completed(given: dict, overrides: Sequence[str]) -> ConfigDict:
    """`load` of a file that was read: what `read` gives, which is not changed."""
    assigned = _assignments(overrides)
    known = fields_of(given | assigned)
    given = given | {field: _parsed(text, known.get(field, "")) for field, text in assigned.items()}
    config = ConfigDict(unflatten_dict(known | _checked(given, known), sep=".")).lock()
    validate(config)
    return config


def read(path: str) -> dict:
    """The fields that a config file sets, 'a.b' → value. Errors: BadInput for a file that cannot be used."""
    given, *argument = path.split(":", 1)
    file = file_of(given, "--config")
    try:
        return flat(ConfigDict(dict(lookup.config_of(file, *argument))))  # ConfigDict(None) would be an empty one
    except Exception as error:  # a config file may raise anything
        raise BadInput(f"--config={path} cannot be used: {type(error).__name__}: {describe(error)}") from error


def file_of(given: str, flag: str) -> Path:
    """A config file, found here or, below configs/, among ours. Errors: BadInput, which names the flag."""
    file = paths.of(given, flag)
    if not os.path.isfile(file) and file.parts[0] == "configs":
        file = lookup.CONFIGS.parent / file
    if not os.path.isfile(file):
        raise BadInput(f"{flag}={given} is not there; give e.g. configs/demo.py")
    return file


def _assignments(overrides: Sequence[str]) -> dict[str, str]:
    found, words = {}, iter(overrides)
    for word in words:
        flag, equals, text = word.partition("=")
        if not flag.startswith("--config."):
            what = f"{word} is not a flag" if word.startswith("-") else f"unknown argument {word!r}"
            raise BadInput(f"{what}; fields are set by --config.a.b=value")
        if not equals:
            text = next(words, "--")
            if text.startswith("--"):  # what the shell made of a variable that is not set
                raise BadInput(f"{flag} has no value; give {flag}=VALUE")
        found[flag.removeprefix("--config.")] = text
    return found


def _parsed(text: str, default):
    """The value of a flag, in the default's type; the text as it is where it is nothing of this type."""
    if isinstance(default, tuple) and text.lstrip().startswith("{"):
        return text  # a set has no order, and a dict would be its names
    one, argv, own_flags = ConfigDict({"value": default}), ["", f"--one.value={text}"], flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("one", one, flag_values=own_flags, sys_argv=argv)
        own_flags(argv)
    except (flags.Error, TypeError, ValueError, RecursionError, MemoryError):  # the last two of deep nesting
        return text
    return one.value


@functools.cache
def defaults() -> dict:
    """The fields of configs/default.py, 'a.b' → value; not to be changed."""
    return flat(lookup.config_of(lookup.CONFIGS / "default.py"))


def fields_of(given: dict) -> dict:
    """All fields of the config that `given` names modules for, 'a.b' → default: those of default.py and the modules'.

    Errors: BadInput for a module that is not there, or that declares a field which every config has.
    """
    common = defaults()
    name = {kind: (common | given)[f"{kind}.name"] for kind in ("gan", "model", "system")}
    system = lookup.load("pneumojax.systems", name["system"], "logits", "config.system.name")
    own = {"gan": getattr(gan.load(name["gan"]), "DEFAULTS", {}), "system": getattr(system, "DEFAULTS", {})}
    own = flat(own | {"model": models.fields(name["model"])})
    if taken := sorted(own.keys() & common.keys()):
        kind = taken[0].split(".")[0]
        raise BadInput(
            f"config.{kind}.name={name[kind]!r} declares config.{taken[0]}, which every config has; rename it"
        )
    return common | own


def _checked(given: dict, known: dict) -> dict:
    """Fields in the types of their defaults. Errors: BadInput for one that is unknown, or by itself cannot be."""
    common, checked = defaults(), {}
    for field, value in given.items():
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1)
            near += [own for own in known if own.startswith(f"{field}.")][:1]
            remedy = f"did you mean config.{near[-1]}?" if near else "see configs/default.py for the fields"
            raise BadInput(f"config.{field} is not a field; {remedy}")
        checked[field] = float(value) if type(known[field]) is float and type(value) is int else value
        if remedy := rules.remedy(field, checked[field], known[field], field in common):
            raise BadInput(f"config.{field}={value!r}: {remedy}")
    return checked


def validate(config: ConfigDict) -> None:
    """Errors: BadInput with field, value and remedy for the first field that is unknown or cannot be."""
    c, fields = config, flat(config)
    _checked(fields, fields_of(fields))
    _check_paths(fields)

    def require(ok: bool, field: str, remedy: str) -> None:
        if not ok:
            raise BadInput(f"config.{field}={fields[field]!r}: {remedy}")

    remedy = "the protocol paper knows no patients to take a part of; give 1, or config.protocols without it"
    require(c.data.fraction == 1 or "paper" not in c.protocols, "data.fraction", remedy)
    for field in ("data.subset", "data.phantom_images") if c.data.name == "phantom" else ("data.subset",):
        example = (234, *[390] * (len(c.data.classes) - 1))
        remedy = f"give a count above 0 for each of {', '.join(c.data.classes)}, e.g. '{example}'"
        require(len(fields[field]) == len(c.data.classes) and rules.whole(fields[field], 1), field, remedy)
    remedy = f"pieces of equal size: give a divisor of config.gan.batch_size={c.gan.batch_size}"
    require(c.gan.batch_size % c.gan.accumulate == 0, "gan.accumulate", remedy)
    if "num_classes" in c.gan:
        remedy = f"config.data.classes has {len(c.data.classes)}; give that"
        require(c.gan.num_classes == len(c.data.classes), "gan.num_classes", remedy)
    remedy = "a part is kept to choose the state by; say when it is measured by config.quality.every"
    require(c.quality.inner == 0 or c.quality.every > 0, "quality.inner", remedy)
    if c.model.weights == "none":
        remedy = "frozen layers want weights; set config.model.weights, or give 'full'"
        require(c.classifier.mode == "full", "classifier.mode", remedy)
    else:
        for name, default in models.fields(c.model.name).items():
            remedy = f"weights are of the published network; give {default!r}, or {from_scratch(c.classifier.mode)}"
            require(c.model.get(name, default) == default, f"model.{name}", remedy)


def _check_paths(fields: dict) -> None:
    """Errors: BadInput for a path that can be none; a home that is not known is told where a folder there is wanted."""
    for field in (*PLACES, "model.weights", "quality.weights"):
        text = fields[field]
        if not (text == "" and field in MAY_BE_EMPTY) and not (field.endswith("cache") and paths.is_below_home(text)):
            paths.of(text, f"config.{field}")
    for one in fields["data.external"]:
        paths.of(one["dir"], f"config.data.external: dir of {one['name']}")


def with_overrides(classifier: FrozenConfigDict, overrides: dict) -> FrozenConfigDict:
    """`config.classifier` with the fields that an arm sets. Errors: BadInput as for the config's own."""
    checked = _checked({f"classifier.{name}": value for name, value in overrides.items()}, defaults())
    return FrozenConfigDict({**classifier, **{name: checked[f"classifier.{name}"] for name in overrides}})


def of_run(written: dict) -> dict:
    """A run's config as its file has it, with the defaults of fields that came later and without those that went.

    The own fields of modules are left to the modules, which need not be here to read a run.

    Errors: ValueError for a field of configs/default.py that is lacking or by itself cannot be.
    """
    given, common = {field: value for field, value in flat(written).items() if field not in GONE}, defaults()
    given |= {field: common[field] for field in LATER if field not in given}
    if lacking := common.keys() - given.keys():
        raise ValueError(f"config.{min(lacking)} is lacking")
    for field, default in common.items():
        value = tuple(given[field]) if type(given[field]) is list else given[field]  # JSON has no tuples
        value = float(value) if type(default) is float and type(value) is int else value
        if remedy := rules.remedy(field, value, default, True):
            raise ValueError(f"config.{field}={value!r}: {remedy}")
    return unflatten_dict(given, sep=".")


def frozen(config: ConfigDict | dict) -> FrozenConfigDict:
    """A config that jit can hash: no dicts in tuples; external sets become (name, dir, patient_pattern or None)."""
    config = ConfigDict(config)
    sets = config.data.external
    config.data.external = tuple((one["name"], one["dir"], one.get("patient_pattern")) for one in sets)
    return FrozenConfigDict(config)


def flat(config: ConfigDict | dict) -> dict:
    """Fields by dotted name: 'a.b' → value."""
    return flatten_dict(config.to_dict() if isinstance(config, ConfigDict) else config, sep=".")


def differences(old: dict, new: dict, but: Sequence[str] = ()) -> list[str]:
    """Fields of two configs that differ, one line each, `but` some; values as JSON has them."""
    old, new = flat(old), flat(new)
    return [
        f"config.{field}: {json.dumps(old.get(field))} there, {json.dumps(new.get(field))} now"
        for field in sorted((old.keys() | new.keys()) - set(but))
        if old.get(field) != new.get(field)
    ]
