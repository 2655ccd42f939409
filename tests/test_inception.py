"""Inception V3 against torchvision's module, and the one of FID against torch-fidelity's."""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict
from test_models import distance, numpy_state, pictures, randomise_normalisation

from pneumojax import conversion, embedding, loop, models, pretrained
from pneumojax.models import inception_v3
from pneumojax.models.layers import average_pool

NAME = "inception_v3"
STAGES = ("Conv2d_4a_3x3", "Mixed_5b", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c")
quick = partial(jax.jit, compiler_options=loop.QUICK_COMPILATION)


@pytest.fixture(scope="module")
def torch_fidelity(torchvision_models):
    """torch_fidelity, which imports torchvision."""
    import torch_fidelity.feature_extractor_inceptionv3
    import torch_fidelity.interpolate_compat_tensorflow

    return torch_fidelity


def random_module(torchvision_models, **options):
    torch.manual_seed(0)
    return randomise_normalisation(torchvision_models.inception_v3(init_weights=False, **options))


@pytest.fixture(scope="module")
def pair(torchvision_models):
    """torchvision's module with random weights and batch statistics, auxiliary head included; the same as variables."""
    module = random_module(torchvision_models, num_classes=2, transform_input=True)
    return module, pretrained.convert(numpy_state(module.state_dict().items()), NAME)


def test_logits_and_stages_are_torchvisions(pair):
    module, variables = pair
    images, outputs = pictures(2, 107).astype(np.float32), {}

    def keep(layer):
        return lambda _, __, output: outputs.__setitem__(layer, output.clone().numpy().transpose(0, 2, 3, 1))

    hooks = [getattr(module, layer).register_forward_hook(keep(layer)) for layer in STAGES]
    with torch.no_grad():
        expected = module.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    for hook in hooks:
        hook.remove()
    model = models.load(NAME)(num_classes=2, transform_input=True)
    apply = quick(partial(model.apply, capture_intermediates=True, mutable=["intermediates"]))
    logits, state = apply(variables, images)
    assert distance(logits, expected) <= 1e-5
    for layer, output in outputs.items():
        assert distance(state["intermediates"][layer]["__call__"][0], output) <= 1e-5


@pytest.mark.slow
def test_two_blocks_train_as_torchvisions(pair):
    """Gradients of every parameter and batch statistics, in float64; of the whole network it takes a minute."""
    module, variables = pair
    features, direction = (np.random.default_rng(0).normal(size=shape) for shape in ((2, 5, 5, 768), 2048))
    begin = inception_v3.Model.STAGES.index("Mixed_7a")
    module = copy.deepcopy(module).double().train()
    output = module.Mixed_7b(module.Mixed_7a(torch.tensor(features.transpose(0, 3, 1, 2))))
    (output.sum((0, 2, 3)) * torch.tensor(direction)).sum().backward()
    tensors = numpy_state((name, p.grad) for name, p in module.named_parameters() if p.grad is not None)
    tensors |= numpy_state((n, b) for n, b in module.named_buffers() if n.startswith(("Mixed_7a", "Mixed_7b")))
    expected = unflatten_dict(
        {
            path: conversion.to_here(tensors[key])
            for key, (path, _) in conversion.table(NAME, 2).items()
            if key in tensors
        }
    )

    def loss(params, statistics, x):
        y, changed = models.load(NAME)(num_classes=2).apply(
            {"params": params, "batch_stats": statistics},
            x,
            train=True,
            begin=begin,
            end=begin + 2,
            mutable=["batch_stats"],
        )
        return (y.sum((0, 1, 2)) * direction).sum(), changed["batch_stats"]

    with jax.enable_x64(True):
        wide = jax.tree.map(jnp.float64, {part: {k: variables[part][k] for k in own} for part, own in expected.items()})
        train = jax.jit(jax.grad(loss, has_aux=True))
        gradients, statistics = train(wide["params"], wide["batch_stats"], features)
    assert distance(gradients, expected["params"]) <= 1e-8
    assert distance(statistics, expected["batch_stats"]) <= 1e-8


def test_weights_go_back_to_torch_without_the_auxiliary_head(pair):
    module, variables = pair
    tensors = numpy_state(module.state_dict().items())
    left_out = {name for name in tensors if name.startswith("AuxLogits.") or name.endswith("num_batches_tracked")}
    back = pretrained.to_torch(variables, NAME)
    assert back.keys() == tensors.keys() - left_out
    assert all(np.array_equal(back[name], tensors[name]) for name in back)


@pytest.mark.parametrize("counted", [True, False])
def test_average_pools_are_pytorchs(counted):
    x = pictures(2, 9).astype(np.float32)
    expected = torch.nn.functional.avg_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), 3, 1, 1, count_include_pad=counted)
    ours = quick(average_pool, static_argnums=(1, 2, 3))(x, 3, 1, counted)
    np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), expected, atol=1e-6)


def test_no_gradient_adds_in_an_open_order():
    """The blocks with each kind of pool lower for GPUs without `select_and_scatter`; all of it takes long to trace."""
    model = models.load(NAME)(num_classes=2, width=8, fid=True)
    for stage, channels in (("Mixed_5d", 36), ("Mixed_6a", 36), ("Mixed_7c", 256)):
        begin = model.STAGES.index(stage)
        run = partial(model.init_with_output, begin=begin, end=begin + 1)
        x = jax.ShapeDtypeStruct((2, 9, 9, channels), jnp.float32)
        gradient = jax.jit(jax.grad(lambda x, run=run: run(jax.random.key(0), x)[0].sum()))
        text = gradient.trace(x).lower(lowering_platforms=("cuda",)).as_text()
        assert "stablehlo.convolution" in text
        assert "select_and_scatter" not in text


@pytest.mark.parametrize("size", [17, 64, 128, 299, 512])
def test_images_for_fid_are_resized_as_tensorflow_1_does(torch_fidelity, size):
    resize = torch_fidelity.interpolate_compat_tensorflow.interpolate_bilinear_2d_like_tensorflow1x
    images = np.random.default_rng(size).integers(0, 256, (2, size, size), np.uint8)
    tensor = torch.tensor(images[:, None]).float()
    resized = resize(tensor, (299, 299), align_corners=False)
    expected = ((resized - 128) / 128).numpy().transpose(0, 2, 3, 1)
    ours = inception_v3.fid_input(images)
    assert ours.shape == (2, 299, 299, 3)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, np.broadcast_to(expected, ours.shape), rtol=0, atol=1e-5)


def test_features_of_fids_file_are_torch_fidelitys(torchvision_models, torch_fidelity, tmp_path):
    """From grey pixels to 2048 numbers, by the file alone."""
    module = random_module(torchvision_models, num_classes=1008, aux_logits=False)
    torch.save(module.state_dict(), tmp_path / "fid.pth")
    build = torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    theirs = build("fid", ["2048"], feature_extractor_weights_path=tmp_path / "fid.pth")
    theirs.INPUT_IMAGE_SIZE = size = 107  # of 299, which takes longer
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)
    with torch.no_grad():
        [expected] = theirs(torch.tensor(images[:, None]).expand(-1, 3, -1, -1))
    ours = embedding.load(NAME, str(tmp_path / "fid.pth"), size=size, batch_size=2)
    assert ours.name.startswith("inception_v3 of FID (fid.pth, ")
    assert distance(ours.features(images), expected) <= 1e-5
