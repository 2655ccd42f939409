"""The four networks against torchvision's: training, inference, and `head` mode against the usual loop.

    python -m experiments.bench.classifier_step

Prints Markdown. Both sides hold the images as uint8 on the device and do the same to them: rows of a batch, gray to
RGB, normalised. torchvision's are channels_last; on a GPU both compute in bfloat16 and PyTorch compiles.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from experiments.bench import paired

NETWORKS = ("alexnet", "squeezenet", "googlenet", "resnet18")
BUILDERS = {"squeezenet": "squeezenet1_1"}  # torchvision's name, where it is another
TRIALS, EPOCHS, IMAGES, TEST = 3, 6, 120, 24  # of the comparison in `head` mode: trials share their images
HEAD_BATCH = 10


def images_of(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise: uint8 [count, size, size] and its labels."""
    pictures = np.random.default_rng(0).integers(0, 256, (count, size, size), np.uint8)
    return pictures, np.arange(count, dtype=np.int32) % 2


def trials_of() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and to test on, of each trial."""
    orders = [np.random.default_rng(trial).permutation(IMAGES).astype(np.int32) for trial in range(TRIALS)]
    return [(order[TEST:], order[:TEST]) for order in orders]


def ours(network: str, task: str, batch: int, size: int, steps: int, dtype: str = ""):
    """pneumojax: a function that runs `task` and returns how many images it has dealt with."""
    from pneumojax import runtime

    runtime.configure()
    import jax
    import jax.numpy as jnp
    from ml_collections import FrozenConfigDict

    from configs import default
    from pneumojax import classify, loop, models, tuning
    from pneumojax.data import table as tables
    from pneumojax.data.table import Table
    from pneumojax.jobs import Job, Layout, Place, stack
    from pneumojax.metrics import Writer
    from pneumojax.stage import Stage
    from pneumojax.systems import features
    from pneumojax.timings import Timings

    dtype = dtype or ("bfloat16" if jax.default_backend() == "gpu" else "float32")
    config = default.get_config().classifier
    config.update({"learning_rate": 1e-6, "batch_size": HEAD_BATCH if task == "head" else batch})
    config.update({"predict_batch_size": 64 if task == "head" else batch, "mode": "head" if task == "head" else "full"})
    config = FrozenConfigDict(config)
    model = models.load(network)(num_classes=2)
    variables = classify.init(jax.random.key(0), model, size)
    chosen = tuning.choose(model, size, variables, config, frozenset())
    recipe = classify.Recipe(model, config, chosen, dtype)
    trained, frozen = tuning.split(variables, chosen)
    count = IMAGES if task == "head" else batch * steps
    pictures, labels = images_of(count, size)
    table = Table(jnp.asarray(pictures), labels)
    states = stack([classify.start(recipe, trained)])
    keys = stack([jax.random.key(0)])

    def train():
        nonlocal states
        rows = loop.epochs(np.arange(count), batch, steps, 0)[:, None]
        for begin, end in loop.dispatches(0, steps, steps):
            inputs = {
                "number": np.arange(begin, end, dtype=np.int32)[:, None],
                "index": tables.index_of(table, rows[begin:end]),
                "labels": labels[rows[begin:end]],
                "fields": {name: values[:, None] for name, values in tuning.fields(end - begin, config).items()},
            }
            shared = (table.examples, None, frozen)
            states, _ = loop.advance(states, keys, inputs, shared, classify.train_step, recipe, Layout(False, False))
        jax.block_until_ready(states)
        return count

    def infer():
        return len(classify.predict(variables, table, np.arange(count), recipe))

    def train_heads(folder: Path):
        place = Place(folder, Writer(folder, {}), Timings(folder / "timings.json"))
        seen = features.table_of(recipe, variables, table, size)
        jobs = [
            Job(
                stage=Stage(trial, "bench", arm="head"),
                start=lambda: classify.start(recipe, trained),
                rows=loop.epochs(own, HEAD_BATCH, len(own) // HEAD_BATCH * EPOCHS, trial),
                key=jax.random.key(trial),
                place=place,
                fields=tuning.fields(len(own) // HEAD_BATCH * EPOCHS, config),
            )
            for trial, (own, _) in enumerate(trials_of())
        ]
        for job, state in loop.train(classify.train_step, jobs, seen, frozen, recipe, together=True):
            test = trials_of()[job.stage.trial][1]
            classify.predict(classify.variables_of(state, frozen), seen, test, recipe)
        place.writer.close()
        return 1

    def heads():
        with tempfile.TemporaryDirectory() as folder:
            return train_heads(Path(folder))

    return {"training": train, "inference": infer, "head": heads}[task]


def theirs(network: str, task: str, batch: int, size: int, steps: int):
    """torchvision's module in a loop as its users write it: the same as `ours`."""
    import contextlib

    import torch

    from pneumojax import weights

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    options = {"aux_logits": False, "init_weights": False} if network == "googlenet" else {}
    module = getattr(weights.import_torchvision().models, BUILDERS.get(network, network))(num_classes=2, **options)
    module = module.to(device, memory_format=torch.channels_last)
    last = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)][-1]
    run_module = torch.compile(module) if gpu else module
    count = IMAGES if task == "head" else batch * steps
    pictures, labels = (torch.tensor(array, device=device) for array in images_of(count, size))
    labels = labels.long()
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)

    def computing():
        return torch.autocast("cuda", torch.bfloat16) if gpu else contextlib.nullcontext()

    def logits_of(rows):
        x = ((pictures[rows][:, None].float() / 255 - mean) / std).to(memory_format=torch.channels_last)
        with computing():
            return run_module(x).float()

    def optimizer_of(parameters):
        return torch.optim.SGD(parameters, 1e-6, momentum=0.9, weight_decay=1e-4)

    def step(optimizer, rows):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits_of(rows), labels[rows]).backward()
        optimizer.step()

    def finish():
        if gpu:
            torch.cuda.synchronize()

    def train():
        module.train()
        for rows in torch.randperm(count, device=device).split(batch):
            step(whole, rows)
        finish()
        return count

    def infer():
        module.eval()
        with torch.inference_mode():
            torch.cat([logits_of(rows) for rows in torch.arange(count, device=device).split(batch)]).cpu()
        return count

    def train_heads():
        module.eval().requires_grad_(False)
        for train, test in trials_of():
            last.reset_parameters()
            last.requires_grad_(True)
            optimizer = optimizer_of(last.parameters())
            for _ in range(EPOCHS):
                for rows in torch.tensor(train, device=device)[torch.randperm(len(train))].split(HEAD_BATCH):
                    if len(rows) == HEAD_BATCH:
                        step(optimizer, rows)
            with torch.inference_mode():
                logits_of(torch.tensor(test, device=device)).cpu()
        finish()
        return 1

    whole = optimizer_of(module.parameters())

    def heads():
        with tempfile.TemporaryDirectory() as folder:
            return train_heads(Path(folder))

    return {"training": train, "inference": infer, "head": heads}[task]


def main() -> None:
    """Prints a table for each task."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--tasks", nargs="+", default=("training", "inference", "head"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--steps", type=int, default=4, help="batches in a round of training or inference")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for task in options.tasks:
        unit = "studies/s" if task == "head" else "images/s"
        print(f"\n| {task} | pneumojax, {unit} | torchvision, {unit} | ratio of rounds, median [range] |")
        print("|---|---|---|---|")
        for network in options.networks:
            args = (network, task, options.batch, options.size, options.steps)
            rounds = 3 if task == "head" else options.rounds
            print(f"| {network} | {paired.compare(ours, theirs, args, rounds).row()} |", flush=True)


if __name__ == "__main__":
    main()
