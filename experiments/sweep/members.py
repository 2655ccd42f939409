"""The members of a sweep, as data: what each sets, its whole config, and the name that follows from it."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pneumojax import config as configs
from pneumojax import lookup, progress
from pneumojax.errors import BadInput, describe

FILE = re.compile(r"(?P<path>.+\.py)(:(?P<name>\w+))?")
GRID = re.compile(r"[\w.]+\s*=")  # how one begins; a path that does can be given as ./a=b.py
OPEN, CLOSE, QUOTES = "([{", ")]}", "'\""
EXAMPLE = "give FILE.py, FILE.py:NAME or a grid, e.g. 'classifier.learning_rate=1e-4,1e-3;seed=0,1'"


class Member(NamedTuple):
    """One run of a sweep."""

    id: str  # 12 hexadecimal digits, a hash of the config
    flags: tuple[str, ...]  # that set its fields, as `pneumojax.main` takes them
    fields: tuple[str, ...]  # that it sets, dotted
    config: dict  # resolved: field → value as JSON has it


def members(config: str, overrides: Sequence[str], sweep: str) -> list[Member]:
    """All members of a sweep, in order.

    Args:
      config: the base, FILE or FILE:ARGUMENT.
      overrides: `--config.a.b=value` for all members.
      sweep: FILE.py for the `sweep()` of a config file, FILE.py:NAME for its `sweep_NAME()`, or a grid (`of_grid`).

    Errors: BadInput for what is none of these, for a member whose config cannot be, and for two of the same config.
    """
    file = None if GRID.match(sweep) else FILE.fullmatch(sweep)
    wanted = of_file(file["path"], file["name"]) if file else of_grid(sweep)
    fixed = {word.partition("=")[0].removeprefix("--config.") for word in overrides}
    base, found = configs.read(config), {}
    for number, fields in enumerate(progress.over(wanted, "members", len(wanted), unit="members"), 1):
        if both := sorted(fixed & fields.keys()):
            raise BadInput(f"config.{both[0]} is swept and set for all members as well; leave one of them out")
        flags = tuple(f"--config.{field}={text}" for field, text in fields.items())
        loaded = configs.completed(base, [*overrides, *flags])
        own = configs.flat(json.loads(loaded.to_json()))
        one = Member(id_of(own), flags, tuple(fields), own)
        if one.id in found:
            first = list(found).index(one.id) + 1
            raise BadInput(
                f"--sweep: members {first} and {number} are of the same config (members are told apart by all fields "
                f"but {', '.join(configs.PLACES)}); leave one out",
                [" ".join(same.flags) or "(nothing set)" for same in (found[one.id], one)],
            )
        found[one.id] = one
    return list(found.values())


def id_of(fields: dict) -> str:
    """What a member is called: a hash of its config, less the places of files, which no result depends on."""
    text = json.dumps({f: v for f, v in fields.items() if f not in configs.PLACES}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def of_file(path: str, name: str | None) -> list[dict[str, str]]:
    """What `sweep()` or `sweep_NAME()` of a config file yields: field → text of its value, a dict a member."""
    function = f"sweep_{name}" if name else "sweep"
    where = f"--sweep={path}: {function}()"
    file = configs.file_of(path, "--sweep")
    try:
        yielded = list(lookup.result_of(file, function))
    except Exception as error:  # a config file may raise anything
        raise BadInput(f"{where} cannot be used: {type(error).__name__}: {describe(error)}") from error
    for fields in yielded:
        if not isinstance(fields, dict) or not all(isinstance(field, str) for field in fields):
            example = "{'classifier.learning_rate': 1e-3, 'seed': 1}"
            raise BadInput(f"{where} yields {fields!r}; give flat dicts of field and value, e.g. {example}")
    if not yielded:
        raise BadInput(f"{where} yields nothing; give a dict a member")
    return [
        {field: str(tuple(value) if isinstance(value, list) else value) for field, value in fields.items()}
        for fields in yielded
    ]


def of_grid(text: str) -> list[dict[str, str]]:
    """All combinations of `FIELD=VALUE,VALUE;FIELD=VALUE,VALUE`; fields joined by `&` go in step.

    Commas, semicolons and ampersands within brackets or quotes part nothing, so that a value can be a tuple; quotes
    around a whole value are taken off.

    Errors: BadInput for what is no grid, and for lists in step that are of unequal length.
    """
    axes = [axis_of(part) for part in parted(text, ";") if part.strip()]
    fields = [field for axis in axes for field in axis[0]]
    if not axes:
        raise BadInput(f"--sweep={text!r} is empty; {EXAMPLE}")
    if twice := [field for field in fields if fields.count(field) > 1]:
        raise BadInput(f"--sweep has config.{twice[0]} twice; give all of its values in one list")
    return [{field: v for step in steps for field, v in step.items()} for steps in itertools.product(*axes)]


def axis_of(text: str) -> list[dict[str, str]]:
    """The steps of fields that go together: 'a=1,2&b=3,4' → [{'a': '1', 'b': '3'}, {'a': '2', 'b': '4'}]."""
    lists: dict[str, list[str]] = {}
    for part in parted(text, "&"):
        field, equals, values = part.partition("=")
        field = field.strip()
        if not equals or not field:
            raise BadInput(f"--sweep: {part.strip()!r} is not FIELD=VALUE,VALUE; {EXAMPLE}")
        if field in lists:
            raise BadInput(f"--sweep has config.{field} twice; give all of its values in one list")
        lists[field] = [unquoted(value.strip()) for value in parted(values, ",")]
        if not all(value.strip() for value in parted(values, ",")):
            raise BadInput(f"--sweep: {part.strip()!r} has an empty value; leave the comma out, or give '' for no text")
    if len({len(values) for values in lists.values()}) > 1:
        counts = ", ".join(f"config.{field} has {len(values)}" for field, values in lists.items())
        raise BadInput(f"--sweep: fields joined by & go in step, but {counts} values; give as many of each")
    return [dict(zip(lists, step, strict=True)) for step in zip(*lists.values(), strict=True)]


def parted(text: str, separator: str) -> Iterator[str]:
    """The pieces of a text between separators that stand outside of brackets and quotes.

    Errors: BadInput for a bracket or quote that stays open.
    """
    piece, depth, quote = "", 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in QUOTES:
            quote = c
        else:
            depth += (c in OPEN) - (c in CLOSE)
        if c == separator and not quote and depth == 0:
            yield piece
            piece = ""
        else:
            piece += c
    if quote or depth:
        raise BadInput(f"--sweep: {text.strip()!r} has {quote or 'a bracket'} without its other one; add it")
    yield piece


def unquoted(text: str) -> str:
    """A text without the quotes around the whole of it."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES else text
