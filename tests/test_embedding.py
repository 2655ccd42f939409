"""Features of images by the project's networks."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from configs import default
from pneumojax import classify, embedding, loop, models, pretrained
from pneumojax.data import phantom, pixels
from pneumojax.embedding import Network
from pneumojax.errors import BadInput
from pneumojax.models import inception_v3

WEIGHTS = Path(__file__).parents[2] / "shared" / "weights" / "squeezenet1_1.safetensors"
SIZE = 48


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 40, 40), np.uint8)


@pytest.fixture(scope="module")
def embedded() -> embedding.Embedding:
    return embedding.load("squeezenet", size=SIZE, batch_size=4)


def test_features_are_those_of_the_stages_run_by_hand(images, embedded):
    model = models.load("squeezenet")()
    variables = classify.init(jax.random.key(0), model, SIZE)

    @partial(jax.jit, compiler_options=loop.QUICK_COMPILATION)
    def by_hand(images):
        x = pixels.normalise(pixels.resized(images, SIZE))
        for index in range(len(model.STAGES) - 1):
            x = model.apply(variables, x, begin=index, end=index + 1)
        return jnp.mean(x, (1, 2))

    found = embedded.features(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(images), rtol=1e-4, atol=1e-6)
    assert embedded.name == "squeezenet (random, seed 0)"
    assert embedded.size == SIZE


def test_order_batches_and_the_place_of_images_change_nothing(images, embedded):
    found = embedded.features(images)
    np.testing.assert_array_equal(embedded.features(images), found)
    np.testing.assert_array_equal(embedded.features(jnp.asarray(images)), found)
    rounding = 1e-5 * np.abs(found).max()  # of small features, which are sums of large ones, on some processors
    np.testing.assert_allclose(embedded.features(images[::-1])[::-1], found, atol=rounding)
    for index, image in enumerate(images):
        np.testing.assert_allclose(embedded.features(image[None]), found[index : index + 1], atol=rounding)


@pytest.mark.parametrize(
    ("name", "features"),
    [("alexnet", 4096), ("squeezenet", 512), ("googlenet", 1024), ("resnet18", 512), ("inception_v3", 2048)],
)
def test_numbers_of_features(name, features):
    model = models.load(name)()
    network = Network(model, len(model.STAGES) - 1, 80)
    variables = jax.eval_shape(lambda: classify.fresh_variables(jax.random.key(0), model, 80))
    found = jax.eval_shape(
        lambda variables, images: embedding.features_of(variables, images, network),
        variables,
        jax.ShapeDtypeStruct((3, 20, 20), jnp.uint8),
    )
    assert found.shape == (3, features)
    assert found.dtype == jnp.float32


def test_weights_may_lack_what_is_not_computed(images, tmp_path):
    """The head never is, and with `stage` nothing behind it."""
    model = models.load("squeezenet")()
    whole = pretrained.to_torch(classify.init(jax.random.key(7), model, SIZE), "squeezenet")
    for name, left_out in (("headless", "classifier."), ("trunk", ("classifier.", "features.12.expand"))):
        tensors = {key: tensor for key, tensor in whole.items() if not key.startswith(left_out)}
        safetensors.numpy.save_file(tensors, tmp_path / f"{name}.safetensors")
    headless = embedding.load("squeezenet", str(tmp_path / "headless.safetensors"), size=SIZE)
    assert headless.name.startswith("squeezenet (headless.safetensors, ")
    with pytest.raises(BadInput, match="4 tensors differ") as caught:
        embedding.load("squeezenet", str(tmp_path / "trunk.safetensors"), size=SIZE)
    assert "missing: features.12.expand1x1.weight" in caught.value.details
    trunk = embedding.load("squeezenet", str(tmp_path / "trunk.safetensors"), size=SIZE, stage="features_11")
    assert trunk.name.startswith("squeezenet to features_11 (trunk.safetensors, ")
    inputs = pixels.normalise(pixels.resized(images, SIZE))
    expected = jax.jit(partial(model.apply, end=8))(pretrained.convert(whole, "squeezenet"), inputs)
    np.testing.assert_allclose(trunk.features(images), np.mean(expected, (1, 2)), rtol=1e-4, atol=1e-6)


def test_inputs_are_those_that_the_weights_were_trained_on():
    """torchvision's GoogLeNet and Inception V3 transform theirs, FID's network has its own."""
    for name, options in (
        ("googlenet", {"transform_input": True}),
        ("inception_v3", {"transform_input": True}),
        ("squeezenet", {}),
    ):
        assert embedding.options_of(models.load(name), name, {"params": {}, "batch_stats": {}}) == options
    head = {"kernel": np.zeros((2048, inception_v3.FID_CLASSES)), "bias": np.zeros(inception_v3.FID_CLASSES)}
    variables = {"params": {"fc": head}, "batch_stats": {}}
    assert embedding.options_of(inception_v3.Model, "inception_v3", variables) == {"fid": True}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"stage": "layer9"}, "resnet18 has no stage 'layer9' before its head; use one of stem, layer1"),
        ("resnet18", {"stage": "fc"}, "has no stage 'fc' before its head"),
        ("inception_v3", {"size": 74}, "inception_v3 cannot be built for images of 74 pixels; raise the size"),
        ("vgg", {}, "config.quality.features='vgg' is not known here"),
        ("vgg", {"fields": ("--features", "--weights")}, "--features='vgg' is not known here"),
    ],
)
def test_what_cannot_be_computed_is_said(name, options, message):
    with pytest.raises(BadInput, match=message):
        embedding.load(name, **options)


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the real weights are not here")
def test_real_weights_tell_phantoms_apart_better_than_pixels_do():
    """By the class of the nearest other image, one image a patient."""
    config = default.get_config().data
    config.phantom_images = (200, 200)
    drawn = phantom.load(config, 64)
    first = [drawn.patients.index(patient) for patient in sorted(set(drawn.patients))]
    labels, pictures = drawn.labels[first], drawn.pixels[first]

    def share(features):
        distances = np.square(features[:, None].astype(np.float64) - features).sum(-1)
        np.fill_diagonal(distances, np.inf)
        return np.mean(labels[distances.argmin(1)] == labels)

    found = embedding.load("squeezenet", str(WEIGHTS), size=128).features(pictures)
    assert share(found) > 0.7 > 0.62 > share(pictures.reshape(len(pictures), -1))


def test_the_command_writes_features_that_numpy_reads_without_pickle(xray_folder, tmp_path, capsys):
    out = tmp_path / "features.npz"
    embedding.main([f"--data={xray_folder}", "--features=resnet18", "--stage=layer1", "--size=32", f"--out={out}"])
    found = np.load(out, allow_pickle=False)
    assert str(out) in capsys.readouterr().out
    count = len(found["names"])
    assert found["features"].shape == (count, 64)
    assert found["features"].dtype == np.float32
    assert found["classes"].tolist() == ["NORMAL", "PNEUMONIA"]
    assert found["embedding"] == "resnet18 to layer1 (random, seed 0)"
    by_class = [name.split("/")[1] for name in found["names"].tolist()]
    assert [found["classes"][label] for label in found["labels"]] == by_class
    assert {len(found[name]) for name in ("labels", "patients", "parts", "subtypes")} == {count}


def test_the_command_refuses_what_it_cannot_use_in_one_line(xray_folder, tmp_path, capsys):
    for flags, line in (
        (["--features=resnet9"], "error: --features='resnet9' is not known here"),
        (["--stage=layer9"], "error: squeezenet has no stage 'layer9'"),
        (["--weights=nowhere.pth"], "error: nowhere.pth"),
        *(([f"--size={size}"], f"error: --size={size}: give pixels a side") for size in (0, -5, 10**9)),
        ([f"--data={tmp_path}/nowhere"], f"error: --data={tmp_path}/nowhere is not a directory"),
        ([f"--out={tmp_path}"], f"error: --out={tmp_path} is a directory; give a file"),
    ):
        with pytest.raises(SystemExit) as end:
            embedding.main([f"--data={xray_folder}", f"--out={tmp_path / 'f.npz'}", *flags])
        assert end.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(line)
    assert not (tmp_path / "f.npz").exists()
