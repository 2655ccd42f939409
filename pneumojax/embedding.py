"""Images as features of a network of `pneumojax.models`, for distances between sets of images and for other tools.

    python -m pneumojax.embedding --data=DIR --features=squeezenet --weights=FILE --out=features.npz

Features of random networks tell images apart as well, if less as an eye would (Naeem et al. 2020).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from pneumojax import checkpoint, classify, cli, data, environment, models, pretrained, sharding, tuning
from pneumojax import config as configs
from pneumojax.conversion import num_classes_of, table
from pneumojax.data import pixels
from pneumojax.errors import BadInput
from pneumojax.models import inception_v3
from pneumojax.names import printable

SEED = 0  # of a network without weights
LARGEST = 4096  # pixels a side that the command takes; what is too large for the memory is found out too late


class Embedding(NamedTuple):
    """A function from images to features, and what it is."""

    name: str  # network and weights, for results: 'squeezenet (ImageNet)', 'resnet18 to layer3 (random, seed 0)'
    size: int  # pixels a side that images are resized to
    features: Callable[[np.ndarray], np.ndarray]  # uint8 [N, S, S], on host or device, N > 0 → float32 [N, d], host


def load(
    name: str,
    weights: str = "none",
    cache: str = "~/.cache/pneumojax",
    size: int | None = None,
    stage: str | None = None,
    batch_size: int = 32,
    fields: tuple[str, str] = ("config.quality.features", "config.quality.weights"),
) -> Embedding:
    """A network up to its head, or to an earlier stage, in evaluation mode; of a picture the mean over its pixels.

    Args:
      name: a network of `pneumojax.models`: `squeezenet` has 512 features, `resnet18` 512, `googlenet` 1024,
        `inception_v3` 2048, `alexnet` 4096. A file with the 1008 classes of FID's network makes `inception_v3` that.
      weights: as `config.model.weights`: 'none' (random, always the same), 'torchvision', a file, a folder. They may
        lack what is not computed.
      cache: where downloads are kept.
      size: pixels a side that images are resized to; None for what it was published for, 224 or 299.
      stage: the last stage that is computed, of the network's `STAGES`; None for the last before the head.
      batch_size: images at a time; it changes no more than rounding.
      fields: what named the network and the weights, for messages.

    Errors: BadInput where the network cannot be built or ended so, or the weights cannot be used.
    """
    model = models.load(name, fields[0])
    end, size = end_of(model, name, stage), size or getattr(model, "SIZE", 224)
    try:
        behind = tuning.stages(model(), size)[end:]
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(f"{name} cannot be built for images of {size} pixels; raise the size", [str(error)]) from error
    if weights == "none":
        variables, made_of = classify.init(jax.random.key(SEED), model(), size), f"random, seed {SEED}"
        options = {}
    else:
        unused = frozenset.union(*(one.params | one.statistics for one in behind))
        missing = [key for key, (path, _) in table(name).items() if path[1:] in unused]
        loaded = pretrained.load(weights, name, missing, cache, field=fields[1])
        variables = loaded.variables
        made_of = "ImageNet" if weights == "torchvision" else f"{Path(weights).name}, {loaded.digest[:12]}"
        options = options_of(model, name, variables)
    kind = " of FID" if options.get("fid") else ""
    to = f" to {stage}" if stage else ""
    network = Network(model(**options), end, size)
    compute = partial(features, variables=sharding.replicate(variables), network=network, batch_size=batch_size)
    return Embedding(f"{name}{kind}{to} ({made_of})", size, compute)


class Network(NamedTuple):
    """What is compiled. Hashable, for jit."""

    model: nn.Module
    end: int  # the first stage that is not computed
    size: int


def end_of(model: type[nn.Module], name: str, stage: str | None) -> int:
    """The number of stages up to `stage`. Errors: BadInput where there is none of this name."""
    stages = getattr(model, "STAGES", ())[:-1]
    if not stages:
        raise BadInput(f"{name} has no stages before its head; give its Model begin, end and STAGES, as resnet18's")
    if stage is None:
        return len(stages)
    if stage not in stages:
        raise BadInput(f"{name} has no stage {stage!r} before its head; use one of {', '.join(stages)}")
    return stages.index(stage) + 1


def options_of(model: type[nn.Module], name: str, variables: dict) -> dict:
    """The fields of a network that its weights imply."""
    if model is inception_v3.Model:
        shapes = {key: tensor.shape for key, tensor in pretrained.to_torch(variables, name).items()}
        if num_classes_of(shapes, name) == inception_v3.FID_CLASSES:
            return {"fid": True}  # it sees `fid_input`, which nothing need transform
    return getattr(model, "WITH_WEIGHTS", {})


@partial(jax.jit, static_argnames="network")
def features_of(variables, images, network: Network):
    """uint8 [B, S, S] → float32 [B, d]."""
    images = sharding.split_batch(images)
    if getattr(network.model, "fid", False):
        x = inception_v3.fid_input(images, network.size)
    else:
        x = pixels.normalise(pixels.resized(images, network.size))
    return classify.pooled(network.model.apply(variables, x, train=False, end=network.end))


def features(images, variables, network: Network, batch_size: int) -> np.ndarray:
    """uint8 [N, S, S] → float32 [N, d], in batches of one shape; the last one goes round to the first images."""
    count = len(images)
    rows = np.resize(np.arange(count), (-(-count // batch_size), batch_size))
    pieces = [features_of(variables, images[some], network) for some in rows]
    return np.concatenate(sharding.fetched(pieces))[:count]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the features of all images of a folder into an .npz, without training anything.

    It holds `features` float32 [N, d] and, [N] each, `names`, `labels`, `patients`, `parts`, `subtypes`; `classes` by
    label; `embedding`, what network made them. `numpy.load` reads it without pickle.
    """
    parser = cli.Parser(prog="python -m pneumojax.embedding", description=main.__doc__)
    parser.add_argument(
        "--data", required=True, type=cli.path, metavar="DIR", help="folder with the class folders, as config.data.dir"
    )
    parser.add_argument("--features", default="squeezenet", help="a network of pneumojax.models; %(default)s")
    parser.add_argument("--weights", default="none", help="as config.model.weights; %(default)s: random ones")
    parser.add_argument("--stage", help="the last stage that is computed; the one before the head")
    parser.add_argument("--size", type=int, help="pixels a side that images are seen at; the network's own")
    parser.add_argument("--out", required=True, type=cli.path, metavar="FILE.npz", help="where they go")
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
        if options.size is not None and not 0 < options.size <= LARGEST:
            raise BadInput(f"--size={options.size}: give pixels a side, from 1 to {LARGEST}")
        if not options.data.is_dir():
            raise BadInput(f"--data={options.data} is not a directory; give one with a folder for each class")
        if options.out.is_dir():
            raise BadInput(f"--out={options.out} is a directory; give a file that may be there or not")
    with cli.exit_codes(options.out, "--out"), environment.pinned():
        embed = load(
            options.features,
            options.weights,
            size=options.size,
            stage=options.stage,
            fields=("--features", "--weights"),
        )
        config = configs.load("configs/default.py", [f"--config.data.dir={options.data}"])
        images = data.load(configs.frozen(config).data, embed.size)
        columns = {name: getattr(images, name) for name in ("names", "labels", "patients", "parts", "subtypes")}
        found = embed.features(images.pixels)
        kept = columns | {"features": found, "classes": config.data.classes, "embedding": embed.name}
        checkpoint.write_arrays(options.out, **{name: np.asarray(values) for name, values in kept.items()})
        cli.show(printable(options.out))


if __name__ == "__main__":
    main()
