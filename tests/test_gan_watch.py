"""What is seen of GANs while they train, and which of their states images are drawn from."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pneumojax import checkpoint, gan
from pneumojax.data import phantom
from pneumojax.errors import BadInput
from pneumojax.gan import quality, watch
from pneumojax.gan.watch import Looks, Watch
from pneumojax.stage import Stage

STAGE = Stage(0, "clean", gan="normal")
CONFIG = SimpleNamespace(phantom_images=(40, 40), classes=("NORMAL", "PNEUMONIA"))


@pytest.fixture(scope="module")
def pictures():
    """NORMAL phantoms, uint8 [40, 16, 16]."""
    images = phantom.load(CONFIG, 16)
    return images.pixels[images.labels == 0]


def thumbnails(images):
    return quality.thumbnails(images, 4)


def watching(pictures, choosing: bool) -> Watch:
    inner = {0: pictures[30:]} if choosing else {0: pictures[:0]}
    looks = Looks(every=1, images=8, embed=thumbnails, name="thumbnails")
    return Watch(looks, {STAGE: watch.sight({0: pictures[:30]}, inner, looks)}, {})


def state(step: int) -> dict:
    return {"w": jnp.full(3, float(step))}


def kept_state(place) -> float:
    folder = watch.kept(place, STAGE)
    return float(checkpoint.read(folder, state(0))["w"][0])


def test_the_state_with_the_lowest_kid_to_images_that_the_gan_did_not_see_is_drawn_from(pictures, place):
    seen = watching(pictures, choosing=True)
    assert watch.drawn_from(place, STAGE, choosing=True) == place.checkpoints(STAGE)
    for step, kid in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None)):
        watch.keep(seen, STAGE, step, state(step), None, kid, place)
    assert watch.drawn_from(place, STAGE, choosing=True) == watch.kept(place, STAGE)
    assert kept_state(place) == 2
    assert checkpoint.read_json(watch.record_of(watch.kept(place, STAGE))) == {"step": 2, "kid": 1.0}


def test_one_image_to_compare_with_has_no_kid_and_ends_no_training(pictures):
    looks = Looks(every=1, images=8, embed=thumbnails, name="thumbnails")
    for real in (pictures[:1], pictures[[3, 3, 3]]):
        assert watch.kid(watch.sight({0: real}, {0: pictures[:0]}, looks), {0: pictures[:8]}, looks) is None


@pytest.mark.parametrize("again", [1, 2, 3])
def test_a_run_that_goes_on_before_the_chosen_step_chooses_the_same(pictures, place, again):
    looks = ((1, 3.0), (2, 1.0), (3, 2.0))
    for first in (1, again):
        seen = watching(pictures, choosing=True)
        for step, kid in looks[first - 1 :]:
            watch.keep(seen, STAGE, step, state(step), None, kid, place)
    assert kept_state(place) == 2


def test_a_state_whose_record_was_not_written_yet_is_kept_again(pictures, place):
    watch.save(STAGE, 2, state(2), {"kid": 1.0}, place)
    watch.record_of(watch.kept(place, STAGE)).unlink()  # killed between the two
    seen = watching(pictures, choosing=True)
    for step, kid in ((1, 3.0), (2, 1.0), (3, 2.0)):
        watch.keep(seen, STAGE, step, state(step), None, kid, place)
    assert kept_state(place) == 2
    assert checkpoint.read_json(watch.record_of(watch.kept(place, STAGE))) == {"step": 2, "kid": 1.0}


@pytest.mark.parametrize("choosing", [False, True])
def test_collapse_is_said_once_and_the_last_good_state_is_kept(pictures, place, caplog, choosing):
    seen = watching(pictures, choosing)
    drawn = {1: pictures[:8], 2: pictures[8:16], 3: pictures[:1].repeat(8, 0), 4: pictures[:1].repeat(8, 0)}
    for step, images in drawn.items():
        why = watch.collapse(seen.sights[STAGE], {0: images})
        assert (why is None) == (step < 3)
        watch.keep(seen, STAGE, step, state(step), why, {1: 1.0, 2: 2.0}.get(step), place)
    told = [text for text in caplog.messages if "collapsed" in text]
    assert len(told) == 1
    assert told[0].startswith(
        "trial0/clean/gan_normal has collapsed after step 3: generated images differ by 0.00 gray"
    )
    assert kept_state(place) == (1 if choosing else 2)
    assert (watch.drawn_from(place, STAGE, choosing) == place.checkpoints(STAGE)) != choosing


@pytest.mark.parametrize(("inner", "told"), [(0.2, 1), (0.0, 0)])
def test_a_choice_by_a_random_network_is_warned_of(inner, told, caplog):
    own = SimpleNamespace(every=2, images=8, features="alexnet", weights="none", inner=inner)
    watch.looks_of(SimpleNamespace(quality=own, model=SimpleNamespace(cache="")))
    assert sum("as a random network sees them" in text for text in caplog.messages) == told


def test_the_kid_is_that_of_features_in_units_of_the_real_ones(pictures):
    seen = watching(pictures, choosing=True)
    real, drawn = thumbnails(pictures[30:]), thumbnails(pictures[:8])
    scale = np.sqrt(16 / (real**2).sum(1).mean())
    expected = quality.kid(scale * real, scale * drawn)
    assert watch.kid(seen.sights[STAGE], {0: pictures[:8]}, seen.looks) == pytest.approx(expected, rel=1e-9)
    assert watch.kid(seen.sights[STAGE], {0: pictures[:1].repeat(8, 0)}, seen.looks) is None


def toy(**broken):
    """A GAN that makes gray; `broken` replaces what it does."""

    def init(key, config):
        return {"w": jnp.zeros(())}

    def step(state, images, labels, key, config):
        return state, {"g_loss": images.mean()}

    def sample(state, latents, labels, config):
        return jnp.zeros((len(latents), config.image_size, config.image_size, 1)) + state["w"]

    return SimpleNamespace(**{"init": init, "step": step, "sample": sample} | broken)


SMALL = SimpleNamespace(name="toy", image_size=8, latent_dim=4, batch_size=2, d_steps=1)


NO_SCALAR = "a metric of step is no scalar, or its name is no text"


def fails(*_):
    raise ValueError("three\nlines\nof it")


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ({"init": fails}, "init fails: ValueError: three lines of it"),
        ({"sample": fails}, "sample fails: ValueError: three lines of it"),
        ({"sample": lambda state, latents, *_: latents}, r"sample does not give float32 \[N, 8, 8, 1\]"),
        ({"step": fails}, "step fails: ValueError: three lines of it"),
        ({"step": lambda state, *_: state}, r"step gives no \(state, {…_loss: scalar}\)"),
        ({"step": lambda state, *_: (state, {"loss": 0.0})}, r"step gives no \(state, {…_loss: scalar}\)"),
        ({"step": lambda state, images, *_: (state, {"g_loss": images})}, NO_SCALAR),
        ({"step": lambda state, *_: (state, {"g_loss": "low"})}, NO_SCALAR),
        ({"step": lambda state, *_: (state, {"g_loss": None})}, NO_SCALAR),
        ({"step": lambda state, *_: (state, {"g_loss": 0.0, 1: 0.0})}, NO_SCALAR),
        (
            {"step": lambda state, images, *_: ({"w": images}, {"g_loss": images.mean()})},
            "step changes the state's structure, shapes or dtypes",
        ),
    ],
)
def test_a_module_that_breaks_the_contract_is_told_in_a_line(broken, line):
    def used(module, images):
        gan.check(module, SMALL)
        gan.step(module, {"w": jnp.zeros(())}, images, jnp.zeros(2, jnp.int32), jax.random.key(0), SMALL)

    told = rf"^config\.gan\.name='toy': {line}; see the contract in pneumojax/gan/__init__.py$"
    with pytest.raises(BadInput, match=told):
        used(toy(**broken), jnp.zeros((2, 8, 8, 1)))
