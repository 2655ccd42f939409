"""The larger networks: VGG and DenseNet against torchvision's, Xception and Inception-ResNet V2 against timm's."""

import importlib
from collections import OrderedDict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict
from test_models import (
    assert_trained_alike,
    distance,
    gradients_and_statistics,
    numpy_state,
    pictures,
    quick,
    randomise_normalisation,
)

from pneumojax import conversion, models, state_dict, tuning, weights
from pneumojax.errors import BadInput
from pneumojax.models import inception_resnet_v2, vgg16, xception
from pneumojax.models.layers import average_pool, convolve

TORCHVISION = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4), "densenet121": (), "densenet201": ()}
FILES = {
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "densenet121": "densenet121-a639ec97.pth",
    "densenet201": "densenet201-c1103571.pth",
}
PARAMETERS = {  # of 1000 classes, and the numbers in batch statistics
    "vgg16": (138_357_544, 0),
    "vgg19": (143_667_240, 0),
    "densenet121": (7_978_856, 83_648),
    "densenet201": (20_013_928, 229_056),
    "inception_v3": (23_834_568, 34_432),  # torchvision's 27,161,264 are with its auxiliary head
    "xception": (22_855_952, 54_528),
    "inception_resnet_v2": (55_873_736 - 60_544, 60_544),  # Keras counts both
}
STAGES = {
    "vgg16": ("features_0", "features_14", "features_28", "classifier_3"),
    "vgg19": ("features_0", "features_16", "features_34", "classifier_3"),
    "densenet121": ("conv0", "denseblock1", "transition2", "denseblock4", "norm5"),
    "densenet201": ("conv0", "denseblock1", "transition2", "denseblock4", "norm5"),
    "xception": ("conv2", "block1", "block3", "block4", "block11", "block12", "bn4"),
    "inception_resnet_v2": (
        *("conv2d_4a", "mixed_5b", "repeat_0", "repeat_9", "mixed_6a", "repeat_1_0", "repeat_1_19", "mixed_7a"),
        *("repeat_2_8", "block8", "conv2d_7b"),
    ),
}
WIDTH = 4


def narrow(name: str) -> type:
    """The Model of a name with all layers, a sixteenth as wide."""

    class Narrow(models.load(name)):
        width: int = WIDTH

    return Narrow


def vgg_module(torchvision_models, depths):
    """torchvision's VGG with groups so long, a sixteenth as wide."""
    vgg, rows = torchvision_models.vgg, ([WIDTH * min(2**group, 8)] * depth for group, depth in enumerate(depths))
    module = vgg.VGG(vgg.make_layers([one for row in rows for one in (*row, "M")]), num_classes=2, init_weights=False)
    for index, (inputs, outputs) in ((0, (8 * WIDTH * 49, 64 * WIDTH)), (3, (64 * WIDTH,) * 2), (6, (64 * WIDTH, 2))):
        module.classifier[index] = torch.nn.Linear(inputs, outputs)
    return module


def densenet_module(torchvision_models, blocks):
    return torchvision_models.DenseNet(WIDTH // 2, blocks, WIDTH, num_classes=2)


def with_norms_of_keras(module, scales: bool):
    """The module with random batch norms, of Keras's epsilon and momentum; without `scales` they are 1."""
    for layer in randomise_normalisation(module).modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps, layer.momentum = 1e-3, 0.01
            if not scales:
                torch.nn.init.ones_(layer.weight)
    return module


def timm_module(name: str):
    timm = pytest.importorskip("timm.models", exc_type=ImportError)
    build = {"xception": timm.legacy_xception, "inception_resnet_v2": timm.inception_resnet_v2}[name]
    return with_norms_of_keras(build(num_classes=2), scales=name == "xception")


def to_here(model: type, tensors: dict[str, np.ndarray], partly: bool = False) -> dict:
    """Variables of a Model of two classes from a torch module's tensors, of any dtype; all of them if not `partly`."""
    table = conversion.table_of(model, 2)
    scales = "bn.weight" if issubclass(model, inception_resnet_v2.Model) else "without"
    left = {name for name in tensors.keys() - table.keys() if not state_dict.passed_over(name)}
    assert all(name.endswith(scales) for name in left), left
    names = [name for name in table if not partly or name in tensors]
    given = {table[name][0]: conversion.to_here(tensors[name]) for name in names}
    assert all(given[path].shape == shape for path, shape in table.values() if path in given)
    return {"params": {}, "batch_stats": {}} | unflatten_dict(given)


LONG = {"xception", "inception_resnet_v2"}
NETWORKS = [
    pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long]) if name in LONG else name
    for name in STAGES
    if name != "densenet201"  # two minutes of compilation: densenet121 with more layers a block, so seen when written
]


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request, torchvision_models):
    """(name, its Model, a module with random weights and batch statistics, the same as variables)."""
    torch.manual_seed(0)
    name = request.param
    if name in TORCHVISION:
        model, build = narrow(name), vgg_module if "vgg" in name else densenet_module
        module = randomise_normalisation(build(torchvision_models, TORCHVISION[name] or models.load(name).BLOCKS))
    else:
        model, module = models.load(name), timm_module(name)
    return name, model, module, to_here(model, numpy_state(module.state_dict().items()))


def submodule(module, layer: str):
    """The one that is called `layer` here."""
    path = layer.replace("_", ".") if layer.startswith(("features", "classifier")) else layer
    head, _, index = layer.rpartition("_")
    path = f"{head}.{index}" if layer.startswith("repeat") else path
    return module.get_submodule(f"features.{path}" if layer.startswith(("dense", "trans", "conv0", "norm")) else path)


def test_logits_and_stages_are_the_references(pair):
    """In evaluation mode, at two sizes; Xception's at those where timm's pools lie as Keras's do."""
    name, model, module, variables = pair
    sizes = {"xception": (71, 103), "inception_resnet_v2": (75, 107)}.get(name, (64, 97))

    def wanted(layer, _):
        return layer.name in STAGES[name]

    apply = quick(partial(model(num_classes=2).apply, capture_intermediates=wanted, mutable=["intermediates"]))
    outputs = {}

    def keep(layer):
        # cloned: the ReLU that follows may work in place
        return lambda _, __, output: outputs.__setitem__(layer, output.clone().numpy())

    hooks = [submodule(module, layer).register_forward_hook(keep(layer)) for layer in STAGES[name]]
    for size in sizes:
        images = pictures(2, size).astype(np.float32)
        with torch.no_grad():
            expected = module.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
        logits, state = apply(variables, images)
        assert distance(logits, expected) <= 1e-5
        for layer in STAGES[name]:
            ours = np.asarray(state["intermediates"][layer]["__call__"][0])
            assert distance(ours.transpose(0, 3, 1, 2) if ours.ndim == 4 else ours, outputs[layer]) <= 1e-5, layer
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_and_shapes_are_torchvisions(torchvision_models, name):
    """Of the published network, without its numbers."""
    with torch.device("meta"):
        module = getattr(torchvision_models, name)()
    there = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    ours = {key: conversion.shape_there(shape) for key, (_, shape) in conversion.table(name).items()}
    assert ours == {key: shape for key, shape in there.items() if not state_dict.passed_over(key)}
    published = torchvision_models.get_weight(weights.ENUMS[name])
    assert published.url.endswith(f"/{FILES[name]}")
    assert published.meta["num_params"] == PARAMETERS[name][0]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_number(name):
    sizes = {"params": 0, "batch_stats": 0}
    for path, shape in conversion.table(name).values():
        sizes[path[0]] += int(np.prod(shape))
    assert (sizes["params"], sizes["batch_stats"]) == PARAMETERS[name]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("family", ["vgg", "densenet"])
def test_training_is_torchvisions(torchvision_models, family):
    """A small member of each family, in float64."""
    torch.manual_seed(0)
    if family == "vgg":
        layers = vgg16.convolutions(1, 1, 1, 1, 1)

        class Small(narrow("vgg16")):
            LAYERS = layers
            STAGES = vgg16.stages(layers)

        module = vgg_module(torchvision_models, (1,) * 5)
    else:

        class Small(narrow("densenet121")):
            BLOCKS = (1, 1, 1, 2)

        module = densenet_module(torchvision_models, Small.BLOCKS)
    assert_trained_alike(Small(num_classes=2), randomise_normalisation(module), partial(to_here, Small))


def timm_blocks(stage: str) -> torch.nn.Sequential:
    """What timm's networks have in a stage, a sixteenth as wide."""
    xcept = pytest.importorskip("timm.models.xception", exc_type=ImportError)
    resnet = importlib.import_module("timm.models.inception_resnet_v2")

    def conv(inputs, outputs, **kwargs):
        return resnet.ConvNormAct(inputs // 16, outputs // 16, **({"padding": 0} | kwargs))

    if stage == "mixed_7a":
        layers = {"mixed_7a": resnet.Mixed_7a(conv)}
    elif stage == "conv2d_7b":
        layers = {"block8": resnet.Block8(no_relu=True, conv_block=conv), "conv2d_7b": conv(2080, 1536, kernel_size=1)}
        layers["block8"].conv2d = torch.nn.Conv2d(448 // 16, 2080 // 16, 1)
    elif stage == "block1":
        layers = {"block1": xcept.Block(4, 8, 2, 2, start_with_relu=False)}
    elif stage == "block12":
        layers = {"block12": xcept.Block(45, 64, 2, 2, grow_first=False)}
    else:
        separable = xcept.SeparableConv2d(64, 96, 3, 1, 1)
        layers = {"conv3": separable, "bn3": torch.nn.BatchNorm2d(96), "act3": torch.nn.ReLU()}
        separable = xcept.SeparableConv2d(96, 128, 3, 1, 1)
        layers |= {"conv4": separable, "bn4": torch.nn.BatchNorm2d(128), "act4": torch.nn.ReLU()}
    return torch.nn.Sequential(OrderedDict(layers))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("torchvision_models")  # which timm imports
@pytest.mark.parametrize(
    ("name", "stage", "shape"),
    [
        ("xception", "block1", (2, 9, 9, 4)),
        ("xception", "block12", (2, 7, 7, 45)),
        ("xception", "exit", (2, 5, 5, 64)),
        ("inception_resnet_v2", "mixed_7a", (2, 5, 5, 68)),
        ("inception_resnet_v2", "conv2d_7b", (2, 3, 3, 130)),
    ],
)
def test_stages_train_as_timms(name, stage, shape):
    """Gradients of parameters and inputs, and batch statistics, in float64; of the whole networks it takes long."""
    torch.manual_seed(0)
    module, model = with_norms_of_keras(timm_blocks(stage), scales=name == "xception").double().train(), narrow(name)
    x = np.random.default_rng(0).normal(size=shape)
    there, before = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True), numpy_state(module.state_dict().items())
    output = module(there)
    direction = np.random.default_rng(1).normal(size=output.shape)
    (output * torch.tensor(direction)).sum().backward()
    begin = model.STAGES.index(stage)

    def loss(params, x, statistics):
        y, changed = model(num_classes=2).apply(
            {"params": params, "batch_stats": statistics},
            x,
            train=True,
            begin=begin,
            end=begin + 1,
            mutable=["batch_stats"],
        )
        return (y * direction.transpose(0, 2, 3, 1)).sum(), changed["batch_stats"]

    with jax.enable_x64(True):
        given, expected = (to_here(model, tensors, True) for tensors in (before, gradients_and_statistics(module)))
        train = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
        (ours, inputs), changed = train(given["params"], jnp.asarray(x), given["batch_stats"])
    # the gradient of block8's bias, which a batch norm takes away again, is 0 but for rounding
    alike = partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10)
    wanted = {**expected, "x": there.grad.numpy().transpose(0, 2, 3, 1)}
    jax.tree.map(alike, {"params": ours, "batch_stats": changed, "x": inputs}, wanted)


@pytest.mark.parametrize("name", ["vgg16", "densenet121", "xception", "inception_resnet_v2"])
def test_stages_share_out_the_network(name):
    """Each variable is of one stage, so that heads and last stages can be trained."""
    model, paths = models.load(name), [path for path, _ in conversion.table(name).values()]
    stages = tuning.stages(model(), 96)
    found = [("params", *path) for stage in stages for path in stage.params]
    found += [("batch_stats", *path) for stage in stages for path in stage.statistics]
    assert sorted(found) == sorted(paths)


@pytest.mark.parametrize(
    ("name", "stage", "shape"),
    [
        ("densenet121", "conv0", (9, 9, 3)),
        ("densenet121", "denseblock1", (9, 9, 8)),
        ("densenet121", "transition1", (9, 9, 32)),
        ("xception", "stem", (19, 19, 3)),
        ("xception", "block2", (8, 8, 16)),
        ("xception", "block5", (5, 5, 91)),
        ("inception_resnet_v2", "mixed_5b", (9, 9, 24)),
        ("inception_resnet_v2", "mixed_7a", (9, 9, 136)),
        ("inception_resnet_v2", "conv2d_7b", (3, 3, 260)),
    ],
)
def test_gradients_in_bfloat16_lower_without_select_and_scatter(name, stage, shape):
    """For GPUs and TPUs, by stages: all of these networks takes long to trace. VGG's is in test_lowering.py."""
    model = models.load(name)(num_classes=2, width=8)
    begin = model.STAGES.index(stage)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.bfloat16)
    run = partial(model.apply, train=True, begin=begin, end=begin + 1, mutable=["batch_stats"])
    whole = jax.eval_shape(partial(model.init, begin=begin, end=begin + 1), jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), whole["params"])

    def loss(params, x, statistics):
        y, _ = run({"params": params, "batch_stats": statistics}, x)
        assert y.dtype == jnp.bfloat16
        return y.sum()

    traced = jax.jit(jax.grad(loss, (0, 1))).trace(params, x, whole["batch_stats"])
    text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
    assert "select_and_scatter" not in text
    products = [line for line in text.splitlines() if "stablehlo.convolution" in line or "stablehlo.dot" in line]
    assert products
    assert all("xbf16>" in line and "xf32>" not in line for line in products)


def test_published_names_of_dense_layers_are_read(torchvision_models):
    """The files have `norm.1` where today's module has `norm1`."""
    known = conversion.table("densenet121")
    tensors = {}
    for key, (_, shape) in known.items():
        head, _, leaf = key.rpartition(".")
        old = f"{head[:-1]}.{head[-1]}.{leaf}" if "denselayer" in key else key
        tensors[f"module.{old}"] = np.broadcast_to(np.float32(0), conversion.shape_there(shape))
    assert "module.features.denseblock4.denselayer16.conv.2.weight" in tensors
    found = state_dict.of_network(tensors, known, "densenet121")
    assert found.tensors.keys() == known.keys()
    assert found.said == ", without 'module.' in their names"


@pytest.mark.parametrize("name", ["xception", "inception_resnet_v2"])
def test_weights_that_torchvision_has_not_are_one_line(name, tmp_path):
    with pytest.raises(BadInput) as caught:
        weights.download(name, tmp_path)
    assert str(caught.value) == f"config.model.weights='torchvision': there are none of {name}; give a file"


def test_a_convolution_of_each_channel_alone_is_pytorchs():
    x, kernel = np.random.default_rng(0).normal(size=(2, 5, 8, 6)), np.random.default_rng(1).normal(size=(3, 3, 1, 6))
    there = [torch.tensor(a, requires_grad=True) for a in (x.transpose(0, 3, 1, 2), conversion.to_there(kernel))]
    expected = torch.nn.functional.conv2d(*there, padding=1, groups=6)
    (expected**2).sum().backward()
    with jax.enable_x64(True):
        ours = partial(convolve, strides=(1, 1), padding=((1, 1), (1, 1)), feature_group_count=6)
        gradients = quick(jax.grad(lambda x, kernel: (ours(x, kernel) ** 2).sum(), (0, 1)))(x, kernel)
        np.testing.assert_allclose(
            ours(jnp.asarray(x), jnp.asarray(kernel)).transpose(0, 3, 1, 2), expected.detach(), atol=1e-12
        )
    np.testing.assert_allclose(gradients[0].transpose(0, 3, 1, 2), there[0].grad, atol=1e-12)
    np.testing.assert_allclose(conversion.to_there(np.asarray(gradients[1])), there[1].grad, atol=1e-12)


@pytest.mark.parametrize("size", [8, 9])
def test_pools_of_stride_2(size):
    """DenseNet's is PyTorch's; Xception's begins at the edge where a side is even, and before it where it is odd."""
    x = pictures(2, size).astype(np.float32)
    there = torch.tensor(x.transpose(0, 3, 1, 2))
    averages = torch.nn.functional.avg_pool2d(there, 2).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(average_pool(x, 2, padding=0, count_padding=True, stride=2), averages, atol=1e-6)
    sides = (size % 2, 1) * 2
    highest = torch.nn.functional.max_pool2d(torch.nn.functional.pad(there, sides, value=-torch.inf), 3, 2)
    np.testing.assert_array_equal(xception.halved(x), highest.numpy().transpose(0, 2, 3, 1))
