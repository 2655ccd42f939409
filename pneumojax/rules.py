"""What the value of a field can be, whatever the other fields are, and what to give in its place."""

import json
import re
from functools import partial
from unicodedata import normalize

from pneumojax.data.decode import FITS
from pneumojax.data.levels import WINDOWS
from pneumojax.evaluate.contrasts import PARTS, SCORES
from pneumojax.protocols import PROTOCOLS
from pneumojax.tuning import MODES, SCHEDULES

KINDS = {
    bool: "True or False",
    int: "a whole number, e.g. 60",
    float: "a finite number, e.g. 0.5",
    str: "a text",
    tuple: "a tuple, e.g. \"('clean', 'paper')\" or '(0, 1, 2)'",
}
MAY_BE_ZERO = ("classifier.weight_decay", "classifier.feature_memory")  # though its default is not
# Of any number but the seed: what arrays on a device can count, and float32 can hold. A rate may well make it diverge.
LARGEST = {int: 2**31 - 1, float: 3.4e38}
CHOICES = {
    "data.on_bad": ("error", "skip"),
    "data.fit": FITS,
    "data.window": WINDOWS,
    "data.residence": ("device", "stream"),
    "gan.dtype": ("float32", "bfloat16"),
    "model.dtype": ("float32", "bfloat16"),
    "classifier.mode": MODES,
    "classifier.optimizer": ("sgd", "adam", "adamw"),
    "classifier.schedule": SCHEDULES,
    "classifier.feature_dtype": ("float32", "bfloat16"),
    "evaluate.score": SCORES,
}


def whole(values: tuple, least: int) -> bool:
    """Whether all are whole numbers from `least`."""
    return all(type(v) is int and v >= least for v in values)  # to isinstance a bool is an int


def _texts(values: tuple) -> bool:
    return all(isinstance(v, str) and v.strip() for v in values) and len(set(values)) == len(values)


def _arm_names(names: list) -> bool:
    # as the checkpoints of GANs are called
    return _texts(names) and not any(re.match(r"gan\d*_", name) for name in names)


def _works(function, value) -> bool:
    try:
        function(value)
    except (TypeError, ValueError, re.error, OverflowError, RecursionError):
        return False
    return True


def _too_large(value) -> bool:
    return type(value) in LARGEST and abs(value) > LARGEST[type(value)]


def _external(one) -> bool:
    if not isinstance(one, dict) or not {"name", "dir"} <= set(one) <= {"name", "dir", "patient_pattern"}:
        return False
    texts = all(isinstance(v, str) for v in one.values())
    return texts and bool(re.fullmatch(r"[\w.-]+", one["name"])) and _works(re.compile, one.get("patient_pattern", ""))


RULES = {field: (lambda v, of=of: v in of, f"give one of {', '.join(of)}") for field, of in CHOICES.items()} | {
    "trials": (
        lambda v: v and whole(v, 0) and max(v) <= 10_000 and len(set(v)) == len(v),
        "give different trial numbers of 0 to 10000, e.g. '(0, 1, 2)'",
    ),
    "protocols": (
        lambda v: v and _texts(v) and set(v) <= set(PROTOCOLS),
        f"give one or more of {', '.join(PROTOCOLS)}, e.g. \"('clean',)\"",
    ),
    "arms": (
        lambda v: v and _texts(v) and _arm_names([word.rpartition(".")[2] for word in v]),
        "give one or more, whose last names are all different and do not begin with gan_, e.g. \"('without_gan',)\"",
    ),
    "enlarge": (lambda v: 1 <= v <= 1000, "give 1 (no generated images) or more, up to 1000"),
    "data.classes": (
        lambda v: (
            len(v) > 1
            and _texts(v)
            and _texts(("macro", *(normalize("NFC", one).lower() for one in v)))
            and "/" not in "".join(v)
        ),
        "give two names or more, without '/', not 'macro', unlike in more than case, e.g. \"('NORMAL', 'PNEUMONIA')\"",
    ),
    "data.patient_pattern": (partial(_works, re.compile), "give a regular expression"),
    "data.test_fraction": (lambda v: 0 < v < 1, "give a fraction within 0…1"),
    "evaluate.inner": (lambda v: 0 <= v < 1, "give a fraction from 0, below 1"),
    "quality.inner": (lambda v: 0 <= v < 1, "give a fraction from 0, below 1"),
    "quality.images": (lambda v: v >= 2, "give 2 or more"),
    "data.folds": (lambda v: v >= 2, "give 2 or more"),
    **{field: (lambda v: v and whole(v, 1), "give counts above 0") for field in ("data.subset", "data.phantom_images")},
    "data.fraction": (lambda v: 0 < v <= 1, "give a fraction above 0, up to 1 for all"),
    "data.external": (
        lambda v: all(map(_external, v)) and _texts([one["name"] for one in v]),
        "give ({'name': NAME, 'dir': DIR}, …), names different, of letters, digits and - . _; a 'patient_pattern' may "
        "stand beside them, a regular expression",
    ),
    **{
        field: (lambda v: 0 <= v < 1, "give 0 or more, below 1")
        for field in ("gan.beta1", "gan.beta2", "classifier.momentum", "classifier.zoom")
    },
    "model.width": (lambda v: v > 0, "give a number above 0"),
    "model.allow_missing": (_texts, "give names, all different, e.g. \"('classifier.1',)\""),
    "classifier.warmup": (lambda v: 0 <= v <= 1, "give a fraction within 0…1"),
    "classifier.shear": (lambda v: 0 <= v < 90, "give degrees from 0, below 90"),
    "evaluate.margin": (lambda v: 0 < v < 1, "give a fraction within 0…1"),
    "evaluate.declared": (
        lambda v: len(v) == 3 and _texts(v) and v[0] in PROTOCOLS and v[1] in PARTS,
        f"give protocol ({', '.join(PROTOCOLS)}), part ({', '.join(PARTS)}) and arm, e.g. "
        "\"('clean', 'unseen', 'with_gan')\"",
    ),
}


def remedy(field: str, value, default, of_all: bool) -> str:
    """What to give in place of a value; '' where it can stand.

    Args:
      field: 'a.b'.
      default: of the field; a value has its type.
      of_all: whether the field is of configs/default.py. A number there is from 0, and above 0 where the default is;
        of a module's own fields this is not known.
    """
    if type(value) is not type(default) or not _works(partial(json.dumps, allow_nan=False), value):
        return f"give {KINDS.get(type(default), f'a {type(default).__name__}')}"
    if field in RULES:
        fits, text = RULES[field][0](value), RULES[field][1]
    elif not of_all or type(default) not in (int, float):
        fits, text = True, ""
    elif default > 0 and field not in MAY_BE_ZERO:
        fits, text = value > 0, "give a number above 0"
    else:
        fits, text = value >= 0, "give 0 or more"
    if fits and field != "seed" and any(map(_too_large, value if type(value) is tuple else (value,))):
        return "give at most 3.4e38" if type(default) is float else f"give at most {LARGEST[int]:,}"
    return "" if fits else text
