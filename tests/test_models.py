"""The classifiers against torchvision's own modules."""

import copy
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from pneumojax import lookup, models, pretrained
from pneumojax.errors import BadInput

NAMES = lookup.names("pneumojax.models", "Model")


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
SIZES = {"alexnet": (224, 227, 64), "googlenet": (224, 299, 97)}


def numpy_state(tensors) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors}


def close(a, b, tolerance):
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.fixture(scope="module", params=PARAMETERS)
def pair(request, torchvision_models):
    """(name, torchvision's module with random weights and batch statistics, the same as variables)."""
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if request.param == "googlenet" else {}
    build = getattr(torchvision_models, BUILDERS.get(request.param, request.param))
    module = build(num_classes=2, **options)
    for name, buffer in module.named_buffers():
        if name.endswith("mean"):
            buffer.copy_(torch.randn_like(buffer) * 0.2)
        elif name.endswith("var"):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return request.param, module, pretrained.convert(numpy_state(module.state_dict().items()), request.param)


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(size).normal(size=(count, size, size, 3))


@pytest.mark.parametrize("which", range(3))
def test_logits_are_torchvisions(pair, which):
    name, module, variables = pair
    size = SIZES.get(name, (224, 97, 64))[which]
    images = pictures(2, size).astype(np.float32)
    with torch.no_grad():
        expected = module.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    close(jax.jit(models.load(name)(num_classes=2).apply)(variables, images), expected, 1e-5)


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
    _, state = jax.jit(partial(models.load(name)(num_classes=2).apply, capture_intermediates=True, mutable=True))(
        variables, images
    )
    for layer, expected in outputs.items():
        ours = np.asarray(state["intermediates"][layer]["__call__"][0])
        close(ours.transpose(0, 3, 1, 2) if ours.ndim == 4 else ours, expected, 1e-5)


def test_training_is_torchvisions(pair):
    """Loss, gradients of every parameter and new batch statistics of one step without dropout, in float64."""
    name, module, variables = pair
    images, labels = pictures(4, 67), np.array([0, 1, 1, 0])
    module = copy.deepcopy(module).double().train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    loss = torch.nn.functional.cross_entropy(module(torch.tensor(images.transpose(0, 3, 1, 2))), torch.tensor(labels))
    loss.backward()
    expected = numpy_state((n, p.grad) for n, p in module.named_parameters())
    expected |= numpy_state(module.named_buffers())
    expected = pretrained.convert(expected, name)

    def no_dropout(layers, inputs, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            return inputs[0]
        return layers(*inputs, **kwargs)

    with jax.enable_x64(True):
        variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)

        @jax.jit
        def loss_of(params):
            with nn.intercept_methods(no_dropout):
                logits, changed = models.load(name)(num_classes=2).apply(
                    {**variables, "params": params}, jnp.asarray(images), train=True, mutable=["batch_stats"]
                )
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), labels]), changed.get("batch_stats", {})

        (ours, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        assert float(ours) == pytest.approx(loss.item(), rel=1e-10)
        assert jax.tree.structure(gradients) == jax.tree.structure(expected["params"])
        jax.tree.map(lambda a, b: close(a, b, 1e-8), gradients, expected["params"])
        jax.tree.map(lambda a, b: close(a, b, 1e-8), statistics, expected["batch_stats"])


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


def test_auxiliary_heads_of_googlenet_are_torchvisions(torchvision_models):
    torch.manual_seed(0)
    module = torchvision_models.googlenet(num_classes=2, aux_logits=True, init_weights=False).train()
    model = models.load("googlenet")(num_classes=2, auxiliary_heads=True)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == sum(p.numel() for p in module.parameters())


def test_unknown_classifier():
    with pytest.raises(BadInput, match=r"config.model.name='vgg' is not known here; use one of .*resnet18"):
        models.load("vgg")
