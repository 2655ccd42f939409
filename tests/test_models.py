"""The classifiers against torchvision's own modules."""

import copy
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from pneumojax import conversion, lookup, loop, models, pretrained
from pneumojax.errors import BadInput
from pneumojax.models.layers import Dropout

NAMES = lookup.names("pneumojax.models", "Model")
quick = partial(jax.jit, compiler_options=loop.QUICK_COMPILATION)

BUILDERS = {"squeezenet": "squeezenet1_1"}  # torchvision's name, where it is another
PARAMETERS = {
    "alexnet": 61_100_840,
    "squeezenet": 1_235_496,
    "squeezenet1_0": 1_248_424,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
}
STAGES = {  # layer here → torchvision's
    "alexnet": {"features_0": "features.0", "features_10": "features.10", "classifier_4": "classifier.4"},
    "squeezenet": {"features_0": "features.0", "features_7": "features.7", "features_12": "features.12"},
    "squeezenet1_0": {"features_0": "features.0", "features_8": "features.8", "features_12": "features.12"},
    "googlenet": {"conv3": "conv3", "inception3b": "inception3b", "inception4e": "inception4e"},
    "resnet18": {f"layer{stage}_1": f"layer{stage}" for stage in range(1, 5)},
}
SIZES = {"alexnet": (224, 227, 64, 299), "googlenet": (224, 299, 97, 64)}


def numpy_state(tensors) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors}


def randomise_normalisation(module):
    """The module with random batch statistics, scales and shifts."""
    for name, buffer in module.named_buffers():
        if name.endswith("mean"):
            buffer.copy_(torch.randn_like(buffer) * 0.2)
        elif name.endswith("var"):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.weight, 1.0, 0.2)
            torch.nn.init.normal_(layer.bias, 0.0, 2.0)
    return module


@pytest.fixture(scope="module", params=PARAMETERS)
def pair(request, torchvision_models):
    """(name, torchvision's module with random weights and batch statistics, the same as variables)."""
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if request.param == "googlenet" else {}
    build = getattr(torchvision_models, BUILDERS.get(request.param, request.param))
    module = randomise_normalisation(build(num_classes=2, **options))
    return request.param, module, pretrained.convert(numpy_state(module.state_dict().items()), request.param)


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(size).normal(size=(count, size, size, 3))


def distance(tree, expected) -> float:
    """The largest over leaves of max|a-b| / max|b|."""

    def of_leaf(a, b):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        return np.abs(a - b).max() / np.abs(b).max()

    return max(jax.tree.leaves(jax.tree.map(of_leaf, tree, expected)), default=0.0)


@pytest.mark.parametrize("which", range(4))
def test_logits_are_torchvisions(pair, which):
    name, module, variables = pair
    size = SIZES.get(name, (224, 97, 64, 227))[which]
    images = pictures(2, size).astype(np.float32)
    with torch.no_grad():
        expected = module.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    logits = quick(models.load(name)(num_classes=2).apply)(variables, images)
    assert distance(logits, expected) <= 1e-5


def test_stages_are_torchvisions(pair):
    name, module, variables = pair
    outputs = {}

    def keep(layer):
        # cloned: the ReLU that follows may work in place
        return lambda _, __, output: outputs.__setitem__(layer, output.clone().numpy())

    hooks = [module.get_submodule(there).register_forward_hook(keep(here)) for here, there in STAGES[name].items()]
    images = pictures(2, 113).astype(np.float32)
    with torch.no_grad():
        module.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    for hook in hooks:
        hook.remove()
    _, state = quick(partial(models.load(name)(num_classes=2).apply, capture_intermediates=True, mutable=True))(
        variables, images
    )
    for layer, expected in outputs.items():
        ours = np.asarray(state["intermediates"][layer]["__call__"][0])
        assert distance(ours.transpose(0, 3, 1, 2) if ours.ndim == 4 else ours, expected) <= 1e-5


def no_dropout(layer, inputs, kwargs, context):
    if isinstance(context.module, Dropout):
        return inputs[0]
    return layer(*inputs, **kwargs)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.7])
def test_dropout_drops_its_share_independently(rate):
    x = jnp.full((37, 11, 401), 3.0)  # 32 does not divide it
    first, second = (
        np.asarray(Dropout(rate).apply({}, x, True, rngs={"dropout": jax.random.key(seed)})) for seed in (0, 1)
    )
    assert set(np.unique(first)) == {0, np.float32(3) / np.float32(1 - rate)}
    kept = [(one > 0).reshape(-1) - (1 - rate) for one in (first, second)]
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert all(abs(one.mean()) < 4 * deviation for one in kept)
    for other in (kept[1], *(np.roll(kept[0], lag) for lag in (1, 16, 31, 32))):
        assert abs(np.mean(kept[0] * other)) < 4 * rate * (1 - rate) / np.sqrt(x.size)
    np.testing.assert_array_equal(Dropout(rate).apply({}, x, False), x)


def gradient_function(model, labels, jit=jax.jit):
    """(variables, images) → ((loss, new batch statistics), gradients), in training mode without dropout."""

    def loss_of(params, batch_stats, images):
        with nn.intercept_methods(no_dropout):
            logits, changed = model.apply(
                {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
            )
        logits = logits if isinstance(logits, tuple) else (logits,)
        rows = jnp.arange(len(labels))
        # torchvision's own training adds the auxiliary losses with this weight
        losses = [
            -jnp.mean(jax.nn.log_softmax(own)[rows, labels]) * (1.0 if index == 0 else 0.3)
            for index, own in enumerate(logits)
        ]
        return sum(losses), changed.get("batch_stats", {})

    grad = jit(jax.value_and_grad(loss_of, has_aux=True))
    return lambda variables, images: grad(variables["params"], variables["batch_stats"], images)


def without_dropout(module, dtype):
    module = copy.deepcopy(module).to(dtype).train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return module


def torch_loss(module, images, labels):
    outputs = module(torch.tensor(images.transpose(0, 3, 1, 2)))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    # torchvision names its outputs logits, aux_logits2, aux_logits1
    return sum(
        torch.nn.functional.cross_entropy(own, torch.tensor(labels)) * (1.0 if index == 0 else 0.3)
        for index, own in enumerate(outputs)
    )


def torch_step(module, images, labels) -> float:
    """The loss; the gradients and new batch statistics stay in the module."""
    module.zero_grad()
    loss = torch_loss(module, images, labels)
    loss.backward()
    return loss.item()


def gradients_and_statistics(module) -> dict[str, np.ndarray]:
    return numpy_state((n, p.grad) for n, p in module.named_parameters()) | numpy_state(module.named_buffers())


def assert_trained_alike(model, module, to_here):
    """Loss, gradients of every parameter and batch statistics of one step, then four steps of SGD, in float64.

    `to_here` makes variables of arrays by torch's names. XLA's convolutions of float64 are plain loops on a CPU: slow
    to compile and to run, and fourteen times slower where they are not optimised.
    """
    images, labels = pictures(2, 67), np.array([0, 1])
    module = without_dropout(module, torch.float64)
    trainer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    with jax.enable_x64(True):
        variables = to_here(numpy_state(module.state_dict().items()))
        gradient_of = gradient_function(model, labels)
        optimizer = optax.sgd(0.01, 0.9)
        state = quick(optimizer.init)(variables["params"])

        @quick
        def moved(params, gradients, state):
            updates, state = optimizer.update(gradients, state)
            return optax.apply_updates(params, updates), state

        for step in range(4):
            loss = torch_step(module, images, labels)
            (ours, statistics), gradients = gradient_of(variables, images)
            if step == 0:
                expected = to_here(gradients_and_statistics(module))
                assert float(ours) == pytest.approx(loss, rel=1e-10)
                assert distance(gradients, expected["params"]) <= 1e-8
                assert distance(statistics, expected["batch_stats"]) <= 1e-8
            trainer.step()
            params, state = moved(variables["params"], gradients, state)
            variables = {"params": params, "batch_stats": statistics}
        assert distance(variables, to_here(numpy_state(module.state_dict().items()))) <= 1e-6


def often(*names: str, without: tuple[str, ...] = ()) -> list:
    """The networks as parameters: those of these names; all others are for `-m long`."""
    rare = [pytest.mark.slow, pytest.mark.long]
    own = [name for name in PARAMETERS if name not in without]
    return [name if name in names else pytest.param(name, marks=rare) for name in own]


@pytest.mark.slow
@pytest.mark.parametrize("pair", often("squeezenet", "resnet18", without=("googlenet",)), indirect=True)
def test_training_is_torchvisions(pair):
    """GoogLeNet's is in the test of its auxiliary heads."""
    name, module, _ = pair
    assert_trained_alike(models.load(name)(num_classes=2), module, partial(pretrained.convert, name=name))


@pytest.mark.slow
@pytest.mark.parametrize("pair", often("googlenet"), indirect=True)
def test_training_in_float32_is_torchvisions(pair):
    """Loss, batch statistics and gradients of every parameter of one step.

    Where an activation is within rounding of a ReLU's kink, or two pixels of a pool are nearly equal, float32 may take
    the other side and gradients change by percents: torchvision's own are then up to 0.3 from its float64's, ours too,
    on other pictures. So gradients must agree on one of several draws; wrong ones would agree on none.
    """
    name, module, variables = pair
    module, labels = without_dropout(module, torch.float32), np.array([0, 1])
    gradient_of = gradient_function(models.load(name)(num_classes=2), labels, quick)
    distances = []
    for draw in range(24):
        images = np.random.default_rng(draw).normal(size=(2, 97, 97, 3)).astype(np.float32)
        module.load_state_dict(pair[1].state_dict())
        loss, expected = torch_step(module, images, labels), pretrained.convert(gradients_and_statistics(module), name)
        (ours, statistics), gradients = gradient_of(variables, images)
        assert float(ours) == pytest.approx(loss, rel=1e-4)
        assert distance(statistics, expected["batch_stats"]) <= 1e-4
        distances.append(distance(gradients, expected["params"]))
        if distances[-1] <= 1e-4:
            break
    assert distances[-1] <= 1e-4, distances


def test_weights_go_back_to_torch(pair):
    name, module, variables = pair
    expected = numpy_state((n, t) for n, t in module.state_dict().items() if not n.endswith("num_batches_tracked"))
    back = pretrained.to_torch(variables, name)
    assert back.keys() == expected.keys()
    assert all(np.array_equal(back[key], expected[key]) and back[key].flags.c_contiguous for key in expected)


def test_other_weights_are_refused_tensor_by_tensor():
    variables = jax.eval_shape(lambda: models.load("squeezenet")().init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))
    good = pretrained.to_torch(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables), "squeezenet")
    bad = {key: value for key, value in good.items() if key != "features.3.squeeze.weight"}
    bad["features.0.weight"] = np.zeros((64, 3, 5, 5))
    bad["layer1.0.conv1.weight"] = np.zeros((1, 1, 1, 1))
    with pytest.raises(BadInput, match="squeezenet: 3 tensors differ") as caught:
        pretrained.convert(bad, "squeezenet")
    assert [line.split()[:2] for line in sorted(caught.value.details)] == [
        ["misshaped:", "features.0.weight"],
        ["missing:", "features.3.squeeze.weight"],
        ["unknown:", "layer1.0.conv1.weight"],
    ]
    del bad["layer1.0.conv1.weight"], bad["features.0.weight"]
    bad |= {"features.0.weight": good["features.0.weight"], "aux1.fc.bias": np.zeros(1)}
    converted = pretrained.convert(bad, "squeezenet", allow_missing=("features.3.squeeze.weight",))
    assert list(converted["params"]["features_3"]["squeeze"]) == ["bias"]
    without = {key: value for key, value in good.items() if not key.startswith("features.3.")}
    assert "features_3" not in pretrained.convert(without, "squeezenet", allow_missing=("features.3",))["params"]
    with pytest.raises(BadInput, match="6 tensors differ"):  # features.3 is not the beginning of a name
        pretrained.convert(without, "squeezenet", allow_missing=("features.", "feat", "features.30"))


@pytest.mark.parametrize("name", NAMES)
def test_contract_of_a_classifier(name):
    model = models.load(name)(num_classes=3)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 96, 96, 3))))
    logits = jax.eval_shape(lambda v: model.apply(v, jnp.zeros((5, 96, 96, 3)), train=False), variables)
    assert logits.shape == (5, 3)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_torchvisions(name):
    variables = jax.eval_shape(lambda: models.load(name)().init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == PARAMETERS[name]


@pytest.mark.slow
@pytest.mark.long
def test_training_of_googlenet_with_auxiliary_heads_and_inputs_is_torchvisions(torchvision_models):
    """All three outputs' losses; the auxiliary heads' weights included."""
    torch.manual_seed(0)
    module = torchvision_models.googlenet(num_classes=2, aux_logits=True, transform_input=True, init_weights=False)
    model = models.load("googlenet")(num_classes=2, auxiliary_heads=True, transform_input=True)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))
    paths = {
        path: (
            ".".join((*(re.sub(r"_(\d+)$", r".\1", key) for key in path[1:-1]), conversion.LEAVES[path[-1]])),
            leaf.shape,
        )
        for path, leaf in flatten_dict(shapes).items()
    }

    def to_here(tensors):
        return unflatten_dict({path: conversion.to_here(tensors[key]) for path, (key, _) in paths.items()})

    variables = to_here(numpy_state(module.state_dict().items()))
    assert {leaf.shape for leaf in jax.tree.leaves(variables)} == {shape for _, shape in paths.values()}
    assert_trained_alike(model, module, to_here)


def test_unknown_classifier():
    with pytest.raises(BadInput, match=r"config.model.name='vgg' is not known here; use one of .*resnet18"):
        models.load("vgg")
