"""What a study will do, and whether it can: drawn and checked before anything is written."""

import math
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging
from clu import parameter_overview

from pneumojax import classify, data, heads, protocols, sharding
from pneumojax.data import splits, stream
from pneumojax.errors import BadInput
from pneumojax.gan import train as gan_train
from pneumojax.protocols import Plan


def shapes(config, model: nn.Module) -> dict:
    """The shapes of the classifier's variables. Errors: BadInput where it cannot be built at its image size."""
    size = config.model.image_size
    try:
        return jax.eval_shape(lambda: classify.fresh_variables(jax.random.key(0), model, size))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(
            f"config.model.image_size={size}: {config.model.name} cannot be built at this size; raise it", [str(error)]
        ) from error


def check_networks(config, model: nn.Module, gan_module: ModuleType) -> dict:
    """`shapes`, which are logged. Errors: BadInput where a network cannot be built at its image size."""
    jax.eval_shape(lambda: gan_module.init(jax.random.key(0), config.gan))
    variables = shapes(config, model)
    parameter_overview.log_parameter_overview(variables, include_stats=False, msg=config.model.name)
    return variables


def check_batches(config, gan_module: ModuleType, plans: dict[tuple[int, str], Plan], labels: dict[str, int]) -> None:
    """Errors: BadInput where a batch has more images than there are to train on."""
    for one in plans.values():
        counts = splits.count(one.seen_by_gan, labels)
        images = {"classifier": min(len(arm.train) for arm in one.arms.values())}
        if one.generated:
            images["gan"] = min(sum(counts[label] for label in own) for own in gan_train.parts(gan_module).values())
        for field, there in images.items():
            if config[field].batch_size > there:
                raise BadInput(
                    f"config.{field}.batch_size={config[field].batch_size} is more than the {there} images there are "
                    f"to train on; lower it or raise config.data.subset or config.data.fraction"
                )


def table_of(images: data.Images, config, plans: dict[tuple[int, str], Plan]):
    """The real images as a table: uint8 [N, S, S] on the device, or streamed from disk.

    Errors: BadInput where they and the generated ones take more of the device than is allowed, or cannot be streamed.
    """
    size = config.model.image_size
    if config.data.residence == "stream":
        if not isinstance(images.pixels, tuple):
            raise BadInput(
                f"config.data.residence='stream': {config.data.name} is drawn in memory and not read from files; "
                "give 'device'"
            )
        stream.grain()
        return stream.Streamed(images.pixels, size, config.data.fit)
    rows = len(images.names) + max(len(one.generated) for one in plans.values())
    gigabytes = rows * size * size / 1e9
    if gigabytes > config.data.memory:
        raise BadInput(
            f"config.data.memory={config.data.memory}: {rows} images of {size} x {size} pixels take {gigabytes:.1f} "
            "gigabytes of the device; raise it, or give config.data.residence='stream'"
        )
    return sharding.replicate(images.pixels)


def check_memory(config, plans: dict[tuple[int, str], Plan], images: int, shape: tuple[int, ...]) -> None:
    """Errors: BadInput where the features of all images, each of `shape`, take more than is allowed."""
    counts = [images, *(len(one.generated) for one in plans.values())]
    rows = heads.rows_of_table(counts, config.classifier.predict_batch_size)
    gigabytes = rows * math.prod(shape) * jnp.dtype(config.classifier.feature_dtype).itemsize / 1e9
    if gigabytes > config.classifier.feature_memory:
        raise BadInput(
            f"config.classifier.feature_memory={config.classifier.feature_memory}: the features of {rows} images, "
            f"{' x '.join(map(str, shape))} {config.classifier.feature_dtype} each, take {gigabytes:.1f} gigabytes; "
            "raise it, give config.classifier.feature_dtype='bfloat16', or fewer trials or protocols"
        )


def draw(
    images: data.Images, external: dict[str, list[str]], config, gan_module: ModuleType
) -> tuple[dict[tuple[int, str], Plan], list[int]]:
    """What each trial and protocol will do.

    Args:
      images: of the study itself.
      external: names of further test sets, which every arm is scored on.
      config: of the study.
      gan_module: of `config.gan.name`.

    Returns: ((trial, protocol) → plan, trials that share patients).
    """
    labels = dict(zip(images.names, images.labels.tolist(), strict=True))
    groups = splits.group(images.names, images.patients, images.digests)
    subsets = {}
    if set(config.protocols) & set(protocols.SUBSET):
        subsets = splits.draw_subsets(labels, groups, config.data.subset, config.trials, config.seed)
    overlapping = [trial for trial, subset in subsets.items() if not subset.disjoint]
    if overlapping:
        logging.warning("trials %s share patients with earlier ones: the images do not suffice", overlapping)
    collection = protocols.Collection(labels, groups, subsets)
    parts = {f"external/{name}": names for name, names in external.items()}
    plans = {
        (trial, protocol): protocols.PROTOCOLS[protocol](collection, config, trial).and_scored_on(parts)
        for trial in config.trials
        for protocol in config.protocols
    }
    check_batches(config, gan_module, plans, labels)
    return plans, overlapping


def official_groups_on_both_sides(plans: dict[tuple[int, str], Plan]) -> int:
    """Groups of one patient or picture that the published folders train and test share; 0 without that protocol."""
    official = [one.record for (_, protocol), one in plans.items() if protocol == "official"]
    return official[0]["groups_on_both_sides"] if official else 0


def record(plans: dict[tuple[int, str], Plan]) -> list[dict]:
    """The trials of splits.json."""
    trials: dict[int, dict] = {}
    for (trial, protocol), one in plans.items():
        trials.setdefault(trial, {"trial": trial})[protocol] = one.record
    return list(trials.values())
