"""Checks a config where it enters, and tells what differs between two."""

import json
import re

from ml_collections import ConfigDict, FrozenConfigDict

from pneumojax.data.decode import FITS
from pneumojax.errors import BadInput
from pneumojax.finetune import MODES, SCHEDULES
from pneumojax.protocols import PROTOCOLS

POSITIVE = (
    *("gan.image_size", "gan.latent_dim", "gan.filters", "gan.batch_size", "gan.epochs", "gan.log_every"),
    *("gan.sample_every", "gan.save_every", "gan.generator_learning_rate", "gan.discriminator_learning_rate"),
    *("model.image_size", "model.width", "classifier.batch_size", "classifier.epochs", "classifier.learning_rate"),
    *("data.memory", "classifier.last_k", "classifier.new_layer_rate", "classifier.feature_memory"),
    *("classifier.predict_batch_size", "classifier.log_every", "classifier.save_every", "evaluate.resamples"),
)
NOT_NEGATIVE = (
    *("seed", "gan.steps", "classifier.steps"),
    *("classifier.momentum", "classifier.weight_decay", "classifier.shift"),
)
CHOICES = {
    "data.on_bad": ("error", "skip"),
    "data.fit": FITS,
    "data.residence": ("device", "stream"),
    "model.dtype": ("float32", "bfloat16"),
    "classifier.mode": MODES,
    "classifier.schedule": SCHEDULES,
    "classifier.feature_dtype": ("float32", "bfloat16"),
}


def validate(config: ConfigDict) -> None:
    """Checks the values that types alone do not. Errors: BadInput with field, value and remedy."""

    def require(ok: bool, field: str, value, remedy: str):
        if not ok:
            raise BadInput(f"config.{field}={value!r}: {remedy}")

    c = config
    require(
        len(c.trials) > 0
        and len(set(c.trials)) == len(c.trials)
        and all(isinstance(t, int) and t >= 0 for t in c.trials),
        "trials",
        c.trials,
        "give different trial numbers from 0, e.g. '(0, 1, 2)'",
    )
    require(
        len(c.protocols) > 0 and len(set(c.protocols)) == len(c.protocols) and set(c.protocols) <= set(PROTOCOLS),
        "protocols",
        c.protocols,
        f"give one or more of {', '.join(PROTOCOLS)}, e.g. \"('clean',)\"",
    )
    require(c.enlarge >= 1, "enlarge", c.enlarge, "give 1 (no generated images) or more")
    require(0 < c.data.test_fraction < 1, "data.test_fraction", c.data.test_fraction, "give a fraction within 0…1")
    require(0 < c.data.fraction <= 1, "data.fraction", c.data.fraction, "give a fraction above 0, up to 1 for all")
    require(
        c.data.fraction == 1 or "paper" not in c.protocols,
        "data.fraction",
        c.data.fraction,
        "the protocol paper knows no patients to take a part of; give 1, or config.protocols without it",
    )
    require(c.data.folds >= 2, "data.folds", c.data.folds, "give 2 or more")
    names = [one.get("name") for one in c.data.external]
    require(
        all(set(one) == {"name", "dir"} and re.fullmatch(r"[\w.-]+", one["name"]) for one in c.data.external)
        and len(set(names)) == len(names),
        "data.external",
        names,
        "give ({'name': NAME, 'dir': DIR}, …), names different, of letters, digits and - . _",
    )
    for field, choices in CHOICES.items():
        value = _get(c, field)
        require(value in choices, field, value, f"give one of {', '.join(choices)}")
    require(
        c.classifier.mode == "full" or c.model.weights != "none",
        "classifier.mode",
        c.classifier.mode,
        "frozen layers want weights; set config.model.weights, or give 'full'",
    )
    require(
        c.model.width == 64 or c.model.weights == "none",
        "model.width",
        c.model.width,
        "weights are of the published network; give 64, or config.model.weights='none'",
    )
    require(0 <= c.classifier.warmup <= 1, "classifier.warmup", c.classifier.warmup, "give a fraction within 0…1")
    for field in ("data.subset", "data.phantom_images"):
        counts = _get(c, field)
        require(
            len(counts) == 2 and all(isinstance(n, int) and n > 0 for n in counts),
            field,
            counts,
            "give two counts above 0, NORMAL and PNEUMONIA, e.g. '(234, 390)'",
        )
    for field in POSITIVE:
        require(_get(c, field) > 0, field, _get(c, field), "give a number above 0")
    for field in NOT_NEGATIVE:
        require(_get(c, field) >= 0, field, _get(c, field), "give 0 or more")


def _get(config: ConfigDict, field: str):
    for key in field.split("."):
        config = config[key]
    return config


def frozen(config: ConfigDict | dict) -> FrozenConfigDict:
    """A config that jit can hash. It may hold no dicts in tuples: external test sets become (name, dir)."""
    config = ConfigDict(config)
    config.data.external = tuple((one["name"], one["dir"]) for one in config.data.external)
    return FrozenConfigDict(config)


def differences(old: dict, new: dict, prefix: str = "config") -> list[str]:
    """Fields of two configs that differ, one line each; values as JSON has them."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}.{key}")
        elif a != b:
            lines.append(f"{prefix}.{key}: {json.dumps(a)} there, {json.dumps(b)} now")
    return lines
