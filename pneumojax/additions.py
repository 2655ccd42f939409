"""The images that a study adds to its table: made by GANs, or of other images."""

from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from pneumojax import sharding
from pneumojax.data.table import Table
from pneumojax.gan import train as gan_train
from pneumojax.gan.drawing import Order, Recipe
from pneumojax.gan.watch import Looks
from pneumojax.jobs import Diverged, Place
from pneumojax.plan import MADE, Block, Plans
from pneumojax.stage import seed_of


class Additions(NamedTuple):
    """What is behind the real images in a study's table; it is filled in place."""

    first: int  # row of the first
    images: np.ndarray  # uint8 [M, G, G], in the order of their rows; black where there is none
    copies: np.ndarray  # int32 [M, 2], as `Table.copies` has them
    lost: dict[int, Diverged]  # rows that a GAN which diverged leaves black, and how it did
    collapsed: dict[str, str]  # GANs whose pictures are all but the same, by stage, and how that shows

    def table(self, real, labels: np.ndarray) -> Table:
        """The study's table: real images, and these; labels int32 [N + M]."""
        images = sharding.replicate(self.images) if len(self.images) else None
        return Table(real, labels, images, self.copies if (self.copies >= 0).any() else None)


def blocks(plans: Plans) -> Iterable[Block]:
    """All that is added, in the order of rows."""
    return (block for plan in plans.values() for block in plan.blocks)


def nothing(first: int, end: int, size: int) -> Additions:
    """Black images of size x size pixels in rows `first` … `end`."""
    return Additions(
        first, np.zeros((end - first, size, size), np.uint8), np.full((end - first, 2), -1, np.int32), {}, {}
    )


def orders(plans: Plans, labels: dict[str, np.ndarray], module: ModuleType, config) -> dict[str, list[tuple]]:
    """What is asked of GANs: kind of block → [(order, rows of what it makes)]; `labels` are those that each sees."""
    found: dict[str, list[tuple]] = {kind: [] for kind in MADE}
    for plan in plans.values():
        for stage, (block, own) in plan.gan_stages(module, config.data.classes).items():
            seen, inner = (rows[np.isin(labels[block.kind][rows], own)] for rows in (plan.seen_by_gan, plan.inner))
            rows = {label: block.rows[block.labels == label] for label in own}
            wanted, seed = {label: len(there) for label, there in rows.items()}, seed_of(config.seed, stage.name)
            order = Order(stage, seen, wanted, seed, config.data.classes, inner)
            found[block.kind].append((order, np.concatenate(list(rows.values()))))
    return found


def by_gans(added: Additions, asked: list[tuple], recipe: Recipe, table: Table, place: Place, looks: Looks) -> None:
    """Fills in what GANs make that see the labels of `table`; `asked` as `orders` has it, of one kind."""
    made = gan_train.make(recipe, [order for order, _ in asked], table, place, looks)
    for order, rows in asked:
        stage, found = order.stage, made[order.stage]
        if isinstance(found, Diverged):
            named = found._replace(metric=f"{stage.name.rpartition('/')[2]}/{found.metric}")
            added.lost.update(dict.fromkeys(rows.tolist(), named))
        else:
            added.images[rows - added.first] = found
            if why := gan_train.collapse(order, table, found):
                added.collapsed[stage.name] = why


def of_others(added: Additions, plans: Plans, table: Table | None, seed: int) -> None:
    """Fills in what is made of other images; `table` has the real ones at the GAN's size, if any is through that.

    How a copy is moved follows from the study's seed, trial and protocol, and not from what else is added.
    """
    for where, plan in plans.items():
        for block in plan.blocks:
            own = block.rows - added.first
            if block.kind == "low_resolution":
                added.images[own] = np.asarray(table.examples[block.source])
            elif block.kind == "shuffled":
                added.images[own] = added.images[block.source - added.first]
                pairs = zip(block.rows.tolist(), block.source.tolist(), strict=True)
                added.lost.update({row: added.lost[source] for row, source in pairs if source in added.lost})
            elif block.kind == "copies":
                numbers = (seed_of(seed, *where, block.kind) + np.arange(len(own))) % 2**31
                added.copies[own] = np.stack([block.source, numbers], -1)
