"""A training step of every GAN against the same layers in PyTorch, eager and compiled.

    python -m experiments.bench.gan_step
    python -m experiments.bench.gan_step --variants dcgan wgan_gp --filters 64 --batch 128 --compile --where
    python -m experiments.bench.gan_step --steps 100 --compile    # on a GPU, where a step is short

Prints Markdown. Both sides hold the images as uint8 on the device and take the options of configs/VARIANT.py, with
other filters and batches. PyTorch's are channels_last; on a GPU both compute in bfloat16.
"""

import argparse

import numpy as np

from experiments.bench import paired
from experiments.bench.gans import pieces
from experiments.bench.gans.setting import FAMILIES, Setting, finish, images_of, our_config, rows_of, twin_of

SIZES = ((32, 32), (64, 128))  # filters and images in a batch


def ours(setting: Setting):
    """pneumojax: a function that trains and returns how many steps it made."""
    config = our_config(setting)
    import jax
    import jax.numpy as jnp

    from pneumojax import gan, loop, sharding
    from pneumojax.data import table as tables
    from pneumojax.data.table import Table
    from pneumojax.gan import train
    from pneumojax.gan.drawing import Recipe
    from pneumojax.jobs import Layout, stack

    recipe = Recipe(gan.load(setting.variant), config)
    pictures, labels = images_of(setting.size)
    table = Table(jnp.asarray(pictures), labels)
    put = sharding.replicate  # as steps leave them, or the second round would be compiled anew
    states, keys = put(stack([train.fresh(jax.random.key(0), recipe)])), put(stack([jax.random.key(1)]))
    rows = rows_of(config, setting.steps)[:, None]

    def run():
        nonlocal states
        for begin, end in loop.dispatches(0, setting.steps, setting.steps):
            inputs = {
                "number": np.arange(begin, end, dtype=np.int32)[:, None],
                "index": tables.index_of(table, rows[begin:end]),
                "labels": labels[rows[begin:end]],
                "fields": {},
            }
            shared = (table.examples, None, {})
            states, _ = loop.advance(states, keys, inputs, shared, train.step, recipe, Layout(False, False))
        jax.block_until_ready(states)
        return setting.steps

    return run


def theirs(setting: Setting):
    """PyTorch's side: the same as `ours`."""
    import torch

    twin, config, device = twin_of(setting)
    pictures, labels = (torch.tensor(array, device=device) for array in images_of(setting.size))
    labels = labels.long()
    rows = torch.tensor(rows_of(config, setting.steps), device=device)

    def run():
        for chosen in rows:
            images = pictures[chosen][:, None].float() / 127.5 - 1
            if config.flip:
                flipped = torch.rand(len(images), 1, 1, 1, device=device) < 0.5
                images = torch.where(flipped, images.flip(3), images)
            twin.step(images, labels[chosen])
        finish(device)
        return setting.steps

    return run


def row(setting: Setting, rounds: int) -> str:
    """A row of the table: milliseconds a step are medians, the ratio is of speeds, more than 1 where ours is faster."""
    rates = paired.compare(ours, theirs, (setting,), rounds)
    ratios = rates.ours / rates.theirs
    cells = (
        setting.variant,
        str(setting.filters),
        str(setting.batch),
        "compiled" if setting.compiled else "eager",
        *(f"{1000 / np.median(side):.3g}" for side in rates),
        f"**{np.median(ratios):.2f}** [{ratios.min():.2f}, {ratios.max():.2f}]",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints a row for each variant and size, and tables of where the time goes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--variants", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--filters", type=int, help="with --batch, instead of 32 on 32 images and 64 on 128")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--steps", type=int, default=3, help="of training in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--where", action="store_true", help="pieces of a step as well")
    options = parser.parse_args()
    if (options.filters is None) != (options.batch is None):
        parser.error("give --filters and --batch, or neither")
    sizes = SIZES if options.filters is None else ((options.filters, options.batch),)
    compiled = (False, True) if options.compile else (False,)
    settings = [
        Setting(variant, filters, batch, options.size, options.steps, how)
        for filters, batch in sizes
        for variant in options.variants
        for how in compiled
    ]
    print("| GAN | filters | batch | PyTorch | pneumojax, ms a step | PyTorch, ms | ratio of rounds, median [range] |")
    print("|---|---|---|---|---|---|---|")
    for setting in settings:
        print(row(setting, options.rounds), flush=True)
    if options.where:
        for setting in settings:
            print(f"\n{pieces.table(setting)}", flush=True)


if __name__ == "__main__":
    main()
