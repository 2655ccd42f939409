"""All that is to be known of an accelerator, in one call of ten minutes: Markdown, a table as soon as it is there.

    python -m experiments.bench.accelerator [--minutes=9] [--toy] [--parts networks gans …]

Each measurement runs in a process of its own, which gives its memory back; what does not fit the minutes is 'not run'.
`--toy` is the same with few channels and steps, on whatever device there is, to see that it works.

f32 is float32 with full products, tf32 float32 whose products are TensorFloat-32's where the device has them, bf16 the
networks' computation in bfloat16. The other side is PyTorch, compiled, in bfloat16 (float32 on a CPU).
"""

import argparse
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty

import numpy as np

from experiments.bench.classifier_step import NETWORKS
from experiments.bench.gans.setting import FAMILIES, Setting

PRECISIONS = {  # column → dtype of the network, what jax makes of a product of float32
    "f32": ("float32", "highest"),
    "tf32": ("float32", "tensorfloat32"),
    "bf16": ("bfloat16", "bfloat16"),
}
STUDY = ["--config=configs/resnet18.py", "--config.data.name=phantom", "--config.model.weights=none"]
DEMO = ["--config=configs/demo.py", "--config.trials=(0,)", "--config.gan.cache="]
TOY = [*DEMO, "--config.protocols=('clean',)", "--config.arms=('without_gan','with_gan')", "--config.enlarge=2.0"]
TOY += ["--config.data.phantom_images=(50,80)", "--config.data.subset=(20,30)", "--config.model.image_size=48"]
TOY += ["--config.gan.steps=4", "--config.classifier.steps=4", "--config.classifier.batch_size=8"]
COMPARED = ("predictions.csv", "metrics.jsonl", "splits.json")


class Budget:
    """Seconds that are left."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()


def work(queue, environment: dict, module: str, name: str, args: tuple) -> None:
    """In the child: what a function of `args` gives."""
    os.environ.update({"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment})
    try:
        queue.put(getattr(importlib.import_module(module), name)(*args))
    except Exception as error:  # of whatever library: it is a cell of a table
        queue.put(f"failed: {type(error).__name__}")


def apart(budget: Budget, function: Callable, *args, **environment: str):
    """`function(*args)` in a process of its own: what it returns, or why it did not."""
    if budget.left < 5:
        return "not run"
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    where = function.__module__ if function.__module__ != "__main__" else "experiments.bench.accelerator"
    process = context.Process(target=work, args=(queue, environment, where, function.__name__, args))
    process.start()
    try:
        return queue.get(timeout=budget.left)
    except Empty:
        return "not run"
    finally:
        process.kill()
        process.join()


def rate(module: str, args: tuple) -> tuple[float, float | None]:
    """How much a second one of our benchmarks does, the best of three rounds; the peak of device memory, GB."""
    run = importlib.import_module(f"experiments.bench.{module}").ours(*args)
    rates = rates_of(run)
    import jax

    stats = jax.local_devices()[0].memory_stats()
    return max(rates), stats["peak_bytes_in_use"] / 1e9 if stats else None


def torch_rate(module: str, args: tuple) -> tuple[float, float | None]:
    """The same of PyTorch."""
    run = importlib.import_module(f"experiments.bench.{module}").theirs(*args)
    rates = rates_of(run)
    import torch

    return max(rates), torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None


def rates_of(run: Callable) -> list[float]:
    """Three rounds, after one to warm up."""
    run()
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        done = run()
        rates.append(done / (time.perf_counter() - started))
    return rates


def cells(found: list) -> list[str]:
    """Rates and peaks of one row, ours in bf16 last but one, PyTorch's last, and the ratio of these two."""
    told = [one if isinstance(one, str) else f"{one[0]:.4g}" for one in found]
    peaks = [f"{one[1]:.2f}" if not isinstance(one, str) and one[1] else "–" for one in (found[-2], found[-1])]
    known = [one for one in (found[-2], found[-1]) if not isinstance(one, str)]
    return [*told, f"**{known[0][0] / known[1][0]:.2f}**" if len(known) == 2 else "–", *peaks]


def show(*columns: str) -> None:
    """A row of a table."""
    print(f"| {' | '.join(columns)} |", flush=True)


def heads(*columns: str) -> None:
    """The first rows of a table."""
    print()
    show(*columns)
    print(f"|{'---|' * len(columns)}", flush=True)


OTHERS = ("PyTorch, compiled", "bf16 / PyTorch", "our peak, GB", "PyTorch's, GB")


def precisions(toy: bool) -> dict[str, tuple[str, str]]:
    """Those that are measured; of a toy the last, since each is a process of its own."""
    return dict(list(PRECISIONS.items())[-1:]) if toy else PRECISIONS


def networks(budget: Budget, toy: bool) -> None:
    """Training and inference of the paper's networks, images a second."""
    batch, size, steps = (2, 64, 1) if toy else (128, 224, 20)
    for task in ("training",) if toy else ("training", "inference"):
        heads(f"{task}, images/s, batch {batch}, {size} pixels", *precisions(toy), *OTHERS)
        for network in NETWORKS[1:2] if toy else NETWORKS:
            args = (network, task, batch, size, steps)
            found = [
                apart(budget, rate, "classifier_step", (*args, dtype), JAX_DEFAULT_MATMUL_PRECISION=products)
                for dtype, products in precisions(toy).values()
            ]
            found.append(apart(budget, torch_rate, "classifier_step", args))
            show(network, *cells(found))


def setting(variant: str, toy: bool, dtype: str = "") -> Setting:
    """A GAN of the paper's size."""
    return Setting(variant, *((4, 4, 32, 1) if toy else (64, 128, 64, 30)), compiled=not toy, dtype=dtype)


def gans(budget: Budget, toy: bool) -> None:
    """Steps of every GAN, a second."""
    one = setting("dcgan", toy)
    heads(f"steps/s, {one.filters} filters, batch {one.batch}, {one.size} pixels", *precisions(toy), *OTHERS)
    for variant in list(FAMILIES)[:1] if toy else FAMILIES:
        found = [
            apart(budget, rate, "gan_step", (setting(variant, toy, dtype),), JAX_DEFAULT_MATMUL_PRECISION=products)
            for dtype, products in precisions(toy).values()
        ]
        found.append(apart(budget, torch_rate, "gan_step", (setting(variant, toy),)))
        show(variant, *cells(found))


def many(how: str, one: Setting, count: int) -> float:
    """Steps a second of so many DCGANs in all: `in turn`, `together` (vmap) or in `threads` of their own."""
    from experiments.bench.gans.setting import images_of, our_config, rows_of

    config = our_config(one)
    import jax
    import jax.numpy as jnp

    from pneumojax import gan, loop
    from pneumojax.data import table as tables
    from pneumojax.data.table import Table
    from pneumojax.gan import train
    from pneumojax.gan.drawing import Recipe
    from pneumojax.jobs import Layout, stack

    recipe = Recipe(gan.load(one.variant), config)
    pictures, labels = images_of(one.size)
    table = Table(jnp.asarray(pictures), labels)
    width = count if how == "together" else 1
    rows = np.repeat(rows_of(config, one.steps)[:, None], width, 1)
    states = [
        stack([train.fresh(jax.random.key(number), recipe) for number in range(first, first + width)])
        for first in range(0, count, width)
    ]
    keys, layout = stack([jax.random.key(1)] * width), Layout(how == "together", False)

    def train_one(index: int) -> None:
        for begin, end in loop.dispatches(0, one.steps, one.steps):
            inputs = {
                "number": np.broadcast_to(np.arange(begin, end, dtype=np.int32)[:, None], (end - begin, width)),
                "index": tables.index_of(table, rows[begin:end]),
                "labels": labels[rows[begin:end]],
                "fields": {},
            }
            shared = (table.examples, None, {})
            states[index], _ = loop.advance(states[index], keys, inputs, shared, train.step, recipe, layout)
        jax.block_until_ready(states[index])

    def run() -> int:
        if how == "threads":
            threads = [threading.Thread(target=train_one, args=(index,)) for index in range(len(states))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            for index in range(len(states)):
                train_one(index)
        return one.steps * count

    return max(rates_of(run))


def jobs(budget: Budget, toy: bool) -> None:
    """A study's GANs at the same time."""
    count = 2 if toy else 12
    heads(f"{count} DCGANs", "steps/s in all")
    for how in ("in turn", "together", "threads"):
        found = apart(budget, many, how, setting("dcgan", toy), count)
        show(how, found if isinstance(found, str) else f"{found:.4g}")


def determinism(budget: Budget, toy: bool) -> None:
    """What it costs that a GPU adds in the same order each time: steps of a DCGAN, a second."""
    heads("DCGAN, bf16", "steps/s")
    for name, flag in (("deterministic, as always", "true"), ("not", "false")):
        variables = {} if toy else {"XLA_FLAGS": f"--xla_gpu_deterministic_ops={flag}"}
        found = apart(budget, rate, "gan_step", (setting("dcgan", toy, "bfloat16"),), **variables)
        show(name, found if isinstance(found, str) else f"{found[0]:.4g}")


def study(budget: Budget, folder: str, flags: list[str]) -> dict[str, float] | str:
    """Seconds by stage of a study in a process of its own, and of the whole; or why there are none."""
    command = [sys.executable, "-m", "pneumojax.main", *flags, f"--workdir={folder}"]
    started = time.monotonic()
    try:
        subprocess.run(command, check=True, timeout=max(budget.left, 1), stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return "not run to its end"
    except subprocess.CalledProcessError as error:
        return f"failed: {error.returncode}"
    spent = json.loads(Path(folder, "results.json").read_text())["timings_s"]
    return spent | {"whole": time.monotonic() - started}


def bits(budget: Budget, toy: bool) -> None:
    """The demo twice: the same bits?"""
    small = TOY if toy else DEMO
    with tempfile.TemporaryDirectory() as folder:
        found = [study(budget, f"{folder}/{number}", small) for number in range(2)]
        heads("the demo's first trial, twice", "the same bits")
        for name in COMPARED:
            if failed := [one for one in found if isinstance(one, str)]:
                show(name, failed[0])
            else:
                contents = {Path(folder, str(number), name).read_bytes() for number in range(2)}
                show(name, "yes" if len(contents) == 1 else "NO")


def whole(budget: Budget, toy: bool) -> None:
    """The paper's study at full scale, on phantoms and from scratch, which computes as much: seconds."""
    with tempfile.TemporaryDirectory() as folder:
        found = study(budget, f"{folder}/run", TOY if toy else STUDY)
    heads("the study of " + ("the demo" if toy else "configs/resnet18.py"), "seconds")
    for name, seconds in ({"whole": found} if isinstance(found, str) else found).items():
        show(name, seconds if isinstance(seconds, str) else f"{seconds:.1f}")


PARTS = {one.__name__: one for one in (jobs, networks, gans, determinism, bits, whole)}


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    options = parser.parse_args()
    budget = Budget(60 * options.minutes)
    for name in options.parts:
        PARTS[name](budget, options.toy)


if __name__ == "__main__":
    main()
