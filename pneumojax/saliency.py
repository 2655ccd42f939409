"""Where a network looks: Grad-CAM and integrated gradients of a classifier, and whether they tell of what it learnt.

Both explain the evidence for a class, its logit less those of the others as `evaluate.Prediction.margins` has it. A map
that hardly changes when parameters are drawn anew tells of the image and not of the network (Adebayo et al. 2018,
'Sanity checks for saliency maps'): the rank correlation of the maps before and after stands beside each.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from pneumojax import classify, sharding, tuning
from pneumojax.classify import Recipe
from pneumojax.data import pixels
from pneumojax.evaluate.intervals import number
from pneumojax.systems import Opened

BATCH = 8  # images at a time, at most
STEPS = 24  # of the path from black to an image
DRAWN = ("head", "all")  # whose parameters are drawn anew
SEED = 2018  # of these; a run's random networks have others
METHODS = {"grad_cam": "Grad-CAM", "integrated": "integrated gradients"}  # fields of Explained
NO_GRADIENT = "its system has no gradient: there is nothing to explain an answer by"


class Cut(NamedTuple):
    """Where a network has its last picture. Hashable, for jit."""

    end: int  # the stage that sees it
    shape: tuple[int, int, int]  # [h, w, C]
    flat: bool  # whether that stage sees it as `layers.channels_first` flattens it


class Map(NamedTuple):
    """What one method says of an image, and the sanity check."""

    values: np.ndarray  # float32 [h, w]
    correlations: dict[str, float | None]  # of DRAWN: rank correlation; None where one of the two is flat


class Explained(NamedTuple):
    """Maps of an image; by Grad-CAM None where the network has no picture inside."""

    grad_cam: Map | None
    integrated: Map  # float32 [S, S], sums to about `gain`
    gain: float  # of the evidence, from black to the image


def cut_of(opened: Opened, size: int) -> Cut | None:
    """The last picture of more than one pixel before the head; None where there is none.

    A stage that flattens its picture is to do so by `layers.channels_first`, as all of `pneumojax.models` do.
    """
    model, row = opened.recipe.model, tuning.stages(opened.recipe.model, size)
    for end in range(opened.end, 0, -1):
        shape = row[end].inputs.shape[1:]
        if len(shape) == 3 and shape[0] * shape[1] > 1:
            return Cut(end, shape, False)
        channels = channels_of(model, row[end - 1].inputs, end - 1) if len(shape) == 1 else 0
        side = math.isqrt(shape[0] // channels) if channels else 0
        if side > 1 and side * side * channels == shape[0]:
            return Cut(end, (side, side, channels), True)
    return None


def channels_of(model: nn.Module, inputs: jax.ShapeDtypeStruct, index: int) -> int:
    """Channels of the last convolution that stage number `index` computes; 0 where it computes none."""
    found = [0]

    def note(run, args, kwargs, context):
        made = run(*args, **kwargs)
        if isinstance(context.module, nn.Conv) and context.method_name == "__call__":
            found.append(made.shape[-1])
        return made

    def run(x):
        with nn.intercept_methods(note):
            return model.init_with_output(jax.random.key(0), x, begin=index, end=index + 1)[0]

    jax.eval_shape(run, inputs)
    return found[-1]


def evidence(logits, classes):
    """Of logits [N, K] for classes int [N]: the logit less the logarithm of the others' summed exponentials, [N]."""
    own = jnp.take_along_axis(logits, classes[:, None], 1)[:, 0]
    is_own = jnp.arange(logits.shape[1]) == classes[:, None]
    return own - jax.nn.logsumexp(jnp.where(is_own, -jnp.inf, logits), axis=1)


@partial(jax.jit, static_argnames=("recipe", "onward", "cut"))
def grad_cam(variables: dict, images, classes, recipe: Recipe, onward: Callable, cut: Cut):
    """Grad-CAM (Selvaraju et al. 2017) at the last picture: the channels' sum, weighted by their mean gradients, not
    below 0. uint8 [N, S, S], int [N] → float32 [N, h, w]."""
    seen = classify.until(recipe, variables, pixels.normalise(images), cut.end)
    gradient = jax.grad(lambda x: evidence(onward(recipe, variables, x, cut.end), classes).sum())(seen)
    seen, gradient = (as_picture(x.astype(jnp.float32), cut) for x in (seen, gradient))
    return nn.relu((gradient.mean((1, 2), keepdims=True) * seen).sum(-1))


def as_picture(x, cut: Cut):
    """[N, h, w, C] of what the stage behind a cut sees."""
    height, width, channels = cut.shape
    return x.reshape(-1, channels, height, width).transpose(0, 2, 3, 1) if cut.flat else x


@partial(jax.jit, static_argnames=("recipe", "onward"))
def along(variables: dict, images, classes, share, recipe: Recipe, onward: Callable):
    """The evidence [N] and its gradient [N, S, S, 3] a `share` of the way from black to images uint8 [N, S, S]."""
    black = pixels.normalise(jnp.zeros_like(images))
    x = black + share * (pixels.normalise(images) - black)

    def total(x):
        found = evidence(onward(recipe, variables, x, 0), classes)
        return found.sum(), found

    (_, found), gradient = jax.value_and_grad(total, has_aux=True)(x)
    return found, gradient.astype(jnp.float32)


def integrated_gradients(
    variables: dict, images: np.ndarray, classes: np.ndarray, recipe: Recipe, onward: Callable, steps: int = STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Integrated gradients (Sundararajan et al. 2017) along the straight path from black, by the midpoints of `steps`.

    A dispatch a step, since loops inside XLA make convolutions slow on CPUs.

    Returns: (float32 [N, S, S], summed over the three equal channels; what the evidence gains [N]).
    """

    def at(share: float):
        return along(variables, images, classes, np.float32(share), recipe, onward)

    mean = sum(at((step + 0.5) / steps)[1] for step in range(steps)) / steps
    way = pixels.normalise(images) - pixels.normalise(np.zeros_like(images))
    return np.asarray((way * mean).sum(-1)), np.asarray(at(1.0)[0] - at(0.0)[0])


def randomised(opened: Opened, size: int, which: str, seed: int = SEED) -> dict:
    """The variables of a classifier with those of its head drawn anew, or of all.

    Batch statistics are drawn anew with all; a probe's weights are shuffled.
    """
    model, variables = opened.recipe.model, dict(opened.variables)
    fresh = classify.init(jax.random.key(seed), model, size)
    if which == "all":
        variables |= {name: fresh[name] for name in ("params", "batch_stats")}
    else:
        behind = tuning.stages(model, size)[opened.end :]
        head = frozenset.union(*(stage.params for stage in behind))
        drawn = {path: leaf for path, leaf in flatten_dict(fresh["params"]).items() if path in head}
        variables["params"] = unflatten_dict(flatten_dict(variables["params"]) | drawn)
    if probe := variables.get("probe"):
        shuffled = np.random.default_rng(seed).permutation(probe["weights"].ravel()).reshape(probe["weights"].shape)
        variables["probe"] = probe | {"weights": shuffled}
    return variables


def explain(opened: Opened, images: np.ndarray, classes: np.ndarray) -> Iterator[Explained]:
    """The maps of each of N > 0 images uint8 [N, S, S] for classes int [N], and their sanity check.

    They are made BATCH images at a time, as they are asked for: of thousands not all are in memory.

    Args:
      opened: a classifier with a gradient.
      images: as it sees them.
      classes: the evidence for which is explained.
    """
    size, cut = images.shape[1], cut_of(opened, images.shape[1])
    batch = min(BATCH, 1 << (len(images) - 1).bit_length())  # few shapes, or each would be compiled
    rows = np.resize(np.arange(len(images)), (-(-len(images) // batch), batch))
    static = {"recipe": opened.recipe, "onward": opened.onward}
    networks = [dict(opened.variables), *(randomised(opened, size, which) for which in DRAWN)]
    networks = sharding.replicate(networks)  # alike, or each would be compiled for

    def maps(variables: dict, some: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        given = (variables, images[some], classes[some])
        cam = np.asarray(grad_cam(*given, cut=cut, **static)) if cut else None
        return cam, *integrated_gradients(*given, **static)

    for first, some in enumerate(rows):
        (cams, integrals, gains), *others = (maps(variables, some) for variables in networks)
        for row in range(min(batch, len(images) - first * batch)):
            by_cam = compared(cams[row], [other[0][row] for other in others]) if cut else None
            by_path = compared(integrals[row], [other[1][row] for other in others])
            yield Explained(by_cam, by_path, float(gains[row]))


def compared(values: np.ndarray, others: list[np.ndarray]) -> Map:
    """A map [h, w], held against those [h, w] of the networks that are DRAWN."""
    kept = (correlation(values.ravel(), other.ravel()) for other in others)
    return Map(values, dict(zip(DRAWN, kept, strict=True)))


def correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's of two maps [n]."""
    from scipy.stats import rankdata  # half a second to import

    if np.ptp(one) == 0 or np.ptp(other) == 0 or not np.isfinite([one, other]).all():
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def checked(explained: Explained) -> dict:
    """The sanity check of an image's maps, method → {"head", "all"}, None where there is none; gain, and gap to it."""
    found = {}
    for method in METHODS:
        own = made.correlations if (made := getattr(explained, method)) else {}
        found[method] = {which: None if value is None else round(value, 3) for which, value in own.items()}
    missed = {"gain": explained.gain, "gap": explained.gain - float(explained.integrated.values.sum())}
    return found | {name: None if number(value) is None else round(value, 3) for name, value in missed.items()}
