"""The classifiers against torchvision's own modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from pneumojax import lookup, models
from pneumojax.errors import BadInput

NAMES = lookup.names("pneumojax.models", "Model")


def flax_name(name: str) -> tuple[str, ...]:
    """torchvision's name of a tensor of ResNet-18 → collection and path here."""
    *path, leaf = name.replace("downsample.", "downsample_").split(".")
    if path[0].startswith("layer"):
        path[:2] = [f"{path[0]}_{path[1]}"]
    statistics = {"running_mean": "mean", "running_var": "var"}
    if leaf in statistics:
        return ("batch_stats", *path, statistics[leaf])
    norm = "bn" in path[-1] or path[-1] == "downsample_1"
    return ("params", *path, leaf if leaf == "bias" else "scale" if norm else "kernel")


def to_flax(tensors: dict) -> dict:
    """A state dict, or gradients by its names, as variables."""
    variables: dict = {"params": {}, "batch_stats": {}}
    for name, tensor in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        *path, leaf = flax_name(name)
        node = variables
        for key in path:
            node = node.setdefault(key, {})
        array = tensor.detach().numpy()
        node[leaf] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return variables


@pytest.fixture(scope="module")
def resnet18(torchvision_models):
    """torchvision's module with random weights and batch statistics, and the same as variables."""
    torch.manual_seed(0)
    module = torchvision_models.resnet18(num_classes=2)
    for name, buffer in module.named_buffers():
        if name.endswith("mean"):
            buffer.copy_(torch.randn_like(buffer) * 0.2)
        elif name.endswith("var"):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return module, to_flax(module.state_dict())


def close(a, b, tolerance):
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("size", [224, 97, 64])
def test_resnet18_computes_torchvisions_logits(resnet18, size):
    module, variables = resnet18
    images = np.random.default_rng(size).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    logits = jax.jit(models.load("resnet18")(num_classes=2).apply)(variables, images)
    close(logits, expected, 1e-5)


def test_resnet18_stages_are_torchvisions(resnet18):
    module, variables = resnet18
    stages = {}

    def keep(name):
        # cloned: the ReLU that follows works in place
        return lambda _, __, output: stages.__setitem__(name, output.clone().numpy().transpose(0, 2, 3, 1))

    names = ("bn1", "layer1", "layer2", "layer3", "layer4")
    hooks = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    images = np.random.default_rng(0).normal(size=(2, 96, 96, 3)).astype(np.float32)
    with torch.no_grad():
        module.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    for hook in hooks:
        hook.remove()
    _, state = models.load("resnet18")(num_classes=2).apply(
        variables, images, capture_intermediates=True, mutable=["intermediates"]
    )
    ours = state["intermediates"]
    close(ours["bn1"]["__call__"][0], stages["bn1"], 1e-5)
    for stage in range(1, 5):
        close(ours[f"layer{stage}_1"]["__call__"][0], stages[f"layer{stage}"], 1e-5)


def test_resnet18_trains_as_torchvisions(resnet18):
    """Loss, gradients of every parameter and new batch statistics of one step, in float64."""
    module, variables = resnet18
    images = np.random.default_rng(1).normal(size=(4, 64, 64, 3))
    labels = np.array([0, 1, 1, 0])
    module = module.double().train()
    loss = torch.nn.functional.cross_entropy(module(torch.tensor(images.transpose(0, 3, 1, 2))), torch.tensor(labels))
    loss.backward()
    expected_gradients = to_flax({name: p.grad for name, p in module.named_parameters()})["params"]
    expected_statistics = to_flax(dict(module.named_buffers()))["batch_stats"]
    module.float()
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)

        @jax.jit
        def loss_of(params):
            logits, changed = models.load("resnet18")(num_classes=2).apply(
                {**variables, "params": params}, jnp.asarray(images), train=True, mutable=["batch_stats"]
            )
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), labels]), changed["batch_stats"]

        (ours, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        assert float(ours) == pytest.approx(loss.item(), rel=1e-10)
        assert jax.tree.structure(gradients) == jax.tree.structure(expected_gradients)
        jax.tree.map(lambda a, b: close(a, b, 1e-8), gradients, expected_gradients)
        jax.tree.map(lambda a, b: close(a, b, 1e-10), statistics, expected_statistics)


def test_resnet18_has_torchvisions_parameters():
    variables = jax.eval_shape(lambda: models.load("resnet18")().init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 11_689_512


@pytest.mark.parametrize("name", NAMES)
def test_contract_of_a_classifier(name):
    model = models.load(name)(num_classes=3)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 96, 96, 3))))
    logits = jax.eval_shape(lambda v: model.apply(v, jnp.zeros((5, 96, 96, 3)), train=False), variables)
    assert logits.shape == (5, 3)
    assert logits.dtype == jnp.float32


def test_unknown_classifier():
    assert "resnet18" in NAMES
    with pytest.raises(BadInput, match=r"config.model.name='vgg' is not known here; use one of .*resnet18"):
        models.load("vgg")
