"""What the networks of `pneumojax.models` cost, at the size that each was published for and two classes.

    nice -n 5 python -m experiments.bench.cost [--networks vgg16 …] [--quick | --counts]

Prints Markdown. Counts are exact. Memory is what XLA lays out on this device for a training step of ten images: these,
parameters, momentum, gradients and activations. Speeds are of that step and of inference in tens, as
`classifier_step.py` measures them, and want a machine that does nothing else; the paper trains for six epochs of 499
images.
"""

import argparse
import math
import time
from functools import partial

from pneumojax import runtime

runtime.configure()  # before jax is there

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from ml_collections import FrozenConfigDict  # noqa: E402

from configs import default  # noqa: E402
from experiments.bench import classifier_step  # noqa: E402
from pneumojax import classify, lookup, models, tuning  # noqa: E402
from pneumojax.jobs import Batch  # noqa: E402

BATCH, EPOCHS, IMAGES, STEPS, ROUNDS = 10, 6, 499, 2, 3
PUBLISHED = {  # parameters with 1000 classes and billions of multiply-adds: torchvision's, Keras's of the last two
    "alexnet": (61_100_840, 0.714),
    "squeezenet": (1_235_496, 0.349),
    "squeezenet1_0": (1_248_424, 0.819),
    "googlenet": (6_624_904, 1.498),
    "resnet18": (11_689_512, 1.814),
    "vgg16": (138_357_544, 15.47),
    "vgg19": (143_667_240, 19.632),
    "densenet121": (7_978_856, 2.834),
    "densenet201": (20_013_928, 4.291),
    "inception_v3": (27_161_264, 5.713),
    "xception": (22_855_952, None),
    "inception_resnet_v2": (55_873_736, None),
}
NOTES = (
    "Published parameters of Inception V3 hold its auxiliary head, which is left out here; those of Inception-ResNet "
    "V2 the 60,544 numbers of batch statistics, which other counts do not."
)


def size_of(model: type[nn.Module]) -> int:
    """Pixels a side that a network was published for."""
    return getattr(model, "SIZE", 224)


def counts(model: nn.Module, size: int) -> tuple[int, int]:
    """Parameters, and multiply-adds of convolutions and linear layers for one image; nothing is computed."""
    multiplied = 0

    def counted(layer, inputs, kwargs, context):
        nonlocal multiplied
        outputs = layer(*inputs, **kwargs)
        if isinstance(context.module, nn.Conv | nn.Dense) and context.method_name == "__call__":
            # each number of a kernel is used once a pixel of what comes out, also where channels are in groups
            multiplied += context.module.variables["params"]["kernel"].size * math.prod(outputs.shape[1:-1])
        return outputs

    with nn.intercept_methods(counted):
        variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), multiplied


def memory(model: nn.Module, size: int) -> int:
    """Bytes that a training step holds at most, as it is compiled for this device."""
    config = default.get_config().classifier
    config.update({"batch_size": BATCH, "mode": "full"})
    config = FrozenConfigDict(config)
    variables = jax.eval_shape(lambda key: classify.fresh_variables(key, model, size), jax.random.key(0))
    recipe = classify.Recipe(model, config, tuning.choose(model, size, variables, config, frozenset()))
    trained, frozen = tuning.split(variables, recipe.tuning)
    state = jax.eval_shape(partial(classify.start, recipe), trained)
    images = jax.ShapeDtypeStruct((BATCH, size, size), jnp.uint8)
    fields = dict.fromkeys(tuning.fields(1, config), jax.ShapeDtypeStruct((), jnp.float32))
    batch = Batch(images, jax.ShapeDtypeStruct((BATCH,), jnp.int32), fields)
    step = jax.jit(classify.train_step, static_argnames="recipe", donate_argnums=0)
    held = step.lower(state, batch, jax.random.key(0), frozen, recipe=recipe).compile().memory_analysis()
    own = held.argument_size_in_bytes + held.output_size_in_bytes - held.alias_size_in_bytes
    return own + held.temp_size_in_bytes


def speed(name: str, task: str, size: int) -> float:
    """Images a second, the median of rounds."""
    run = classifier_step.ours(name, task, BATCH, size, STEPS)
    run()
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        rates.append(run() / (time.perf_counter() - started))
    return float(np.median(rates))


def row(name: str, measured: str) -> str:
    """One network's; `measured` is 'counts', 'memory' too, or 'speeds' too."""
    model = models.load(name)
    size, (published, published_adds) = size_of(model), PUBLISHED.get(name, (None, None))
    (parameters, adds), (whole, whole_adds) = (counts(model(num_classes=count), size) for count in (2, 1000))
    cells = [name, str(size), f"{parameters:,}", f"{whole:,}", f"{published:,}" if published else ""]
    cells += [f"{number / 1e9:.3f}" for number in (adds, whole_adds)]
    cells.append(f"{published_adds:.3f}" if published_adds else "")
    if measured != "counts":
        cells.append(f"{memory(model(num_classes=2), size) / 1e9:.2f}")
    if measured == "speeds":
        inference, training = (speed(name, task, size) for task in ("inference", "training"))
        cells += [f"{inference:.3g}", f"{training:.3g}", f"{EPOCHS * IMAGES / training / 60:.1f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    known = lookup.names("pneumojax.models", "Model")
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--quick", action="store_true", help="no speeds")
    parser.add_argument("--counts", action="store_true", help="neither speeds nor memory, for which steps are compiled")
    options = parser.parse_args()
    measured = "counts" if options.counts else "memory" if options.quick else "speeds"
    head = ["network", "pixels", "parameters, 2 classes", "with 1000", "published", "10⁹ multiply-adds, 2 classes"]
    head += ["with 1000", "published"]
    head += [] if measured == "counts" else [f"GB of a step of {BATCH}"]
    head += ["inference, images/s", "training, images/s", "6 epochs of 499, min"] if measured == "speeds" else []
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for name in options.networks:
        print(row(name, measured), flush=True)
    print(f"\n{NOTES} {'' if measured == 'counts' else f'On {jax.devices()[0].device_kind}.'}")


if __name__ == "__main__":
    main()
