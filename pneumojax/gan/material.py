"""Who the generated images of a finished run are held against: patients that the GAN never saw, in two parts."""

import itertools
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from pneumojax import checkpoint, data, gan, loop
from pneumojax.data import Images, splits
from pneumojax.errors import BadInput
from pneumojax.gan import train
from pneumojax.jobs import place_of
from pneumojax.run import Run
from pneumojax.stage import Stage


class Pool(NamedTuple):
    """The real images of a run, at the size of a network that looks at them and at the GAN's."""

    images: Images
    large: np.ndarray  # uint8 [N, L, L]
    small: np.ndarray  # uint8 [N, S, S]
    groups: np.ndarray  # int [N], equal for images of one patient or with equal pixels


class Case(NamedTuple):
    """One GAN and class: what it made, and rows of real images of that class, in an order of chance."""

    stage: Stage
    label: int
    generated: np.ndarray  # uint8 [n, S, S]; there may be none
    training: np.ndarray  # rows that the GAN saw
    held_out: np.ndarray  # rows of other patients, which it is held against
    floor: np.ndarray  # rows of yet other patients, as many if there are so many: how near real images come
    other_class: np.ndarray  # rows of other patients of the next class
    absent: str  # why nothing was generated, where nothing was

    @property
    def rows(self) -> tuple[np.ndarray, ...]:
        """All rows of real images."""
        return self.training, self.held_out, self.floor, self.other_class


def pool(run: Run, size: int) -> Pool:
    """The real images of a run. Errors: BadInput where they are not those that it was made of."""
    config = ConfigDict({**run.config.data, "residence": "device"})
    large, small = (data.load(config, pixels) for pixels in (size, run.config.gan.image_size))
    lists = [names for trial in run.splits["trials"] for names in lists_of(trial)]
    known = set(large.names)
    if large.names != small.names or any(name not in known for names in lists for name in names):
        raise BadInput(f"config.data.dir={config.dir!r} has not the images that {run.workdir} was made of; bring them")
    return Pool(large._replace(pixels=()), large.pixels, small.pixels, splits.group(large.patients, large.digests))


def lists_of(record) -> list[list[str]]:
    """All lists of names of real images in an entry of splits.json."""
    if isinstance(record, list):
        return [[name for name in record if not name.startswith("generated/")]]
    return [found for value in record.values() for found in lists_of(value)] if isinstance(record, dict) else []


def cases(run: Run, pool: Pool, count: int) -> list[Case]:
    """All GANs and classes of a run, with `count` images of each kind at most.

    Held out are patients of whom the GAN saw no image, but for the published folder `test`, whose images differ from
    the others' by more than their patients: its KID to them is 0.25 (measured).

    Errors: BadInput where the run has made no images, or they are damaged.
    """
    config, found = run.config, []
    row_of = {name: row for row, name in enumerate(pool.images.names)}
    module, classes = gan.load(config.gan.name), config.data.classes
    for trial in run.splits["trials"]:
        for protocol in config.protocols:
            entry, rng = trial[protocol], np.random.default_rng([config.seed, trial["trial"], 6])
            given = np.array([row_of[name] for name in entry.get("train", entry["subset"])], int)
            kept = np.array([row_of[name] for name in entry.get("gan_inner", ())], int)
            wanted = splits.held_out(splits.count(given, pool.images.labels, classes), config.enlarge - 1)
            free = ~np.isin(pool.groups, pool.groups[given]) & (np.array(pool.images.parts) != "test")
            parts = {
                label: two_parts(pool, free & (pool.images.labels == label), rng, count)
                for label in range(len(classes))
            }
            states = gan.states(module, classes).items()
            for seed, (name, labels) in itertools.product(range(config.gan.seeds), states):
                stage = Stage(trial["trial"], protocol, gan=name, gan_seed=seed)
                made = images_of(run, stage, {label: int(wanted[label]) for label in labels})
                absent = why_absent(run, stage)
                for label in labels:
                    training = rng.permutation(np.setdiff1d(given[pool.images.labels[given] == label], kept))
                    other = parts[(label + 1) % len(classes)][0]
                    rows = training, *parts[label], other
                    found.append(Case(stage, label, made.get(label, NONE)[:count], *rows, absent))
    if not any(len(case.generated) for case in found):
        raise BadInput(f"{run.workdir} has no generated images to evaluate")
    return found


NONE = np.zeros((0, 1, 1), np.uint8)


def two_parts(pool: Pool, free: np.ndarray, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two parts of the rows that are free, bool [N], without a patient in both: `count` images of each at most."""
    by_group = splits.members(np.flatnonzero(free), pool.groups)
    parts: tuple[list[int], list[int]] = ([], [])
    for group in rng.permutation(list(by_group)).tolist():
        min(parts, key=len).extend(by_group[group])
    return tuple(np.array(rng.permutation(part)[:count], int) for part in parts)


def why_absent(run: Run, stage: Stage) -> str:
    """Why a GAN has made nothing of a class, if it has not."""
    return "the GAN diverged" if diverged(run, stage) else "no arm asked for its images"


def diverged(run: Run, stage: Stage) -> bool:
    """Whether a GAN did."""
    return loop.diverged_before(place_of(run.workdir), stage) is not None


def images_of(run: Run, stage: Stage, wanted: dict[int, int]) -> dict[int, np.ndarray]:
    """What a GAN made, label → uint8 [n, S, S]; nothing where it diverged, or no arm asked for it.

    Errors: BadInput where its images are lost or damaged.
    """
    path = train.images_path(run.workdir, stage)
    if not path.exists():
        if (run.workdir / "checkpoints" / stage.name).exists() and not diverged(run, stage):
            raise BadInput(f"{path} is not there, the images that the GAN made; bring it back, or run the study anew")
        return {}
    with checkpoint.record_of_run(path):
        images = checkpoint.read_arrays(path)["images"]
        if len(images) != sum(wanted.values()):
            raise ValueError(f"it holds {len(images)} images where {sum(wanted.values())} should be")
    return dict(zip(wanted, np.split(images, np.cumsum(list(wanted.values()))[:-1]), strict=True))
