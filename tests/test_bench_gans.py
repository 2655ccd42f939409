"""The PyTorch side of the GAN benchmark: the same networks, and steps that train."""

import importlib
from types import SimpleNamespace

import jax
import pytest
import torch

from experiments.bench.gans import setting as settings
from experiments.bench.gans.setting import FAMILIES, Setting

CPU = torch.device("cpu")


def twin_of(variant: str, size: int):
    """Our config of a variant at 8 filters, and its twin on the CPU."""
    config = settings.config_of(Setting(variant, 8, 4, size, 1), "float32")
    family = importlib.import_module(f"experiments.bench.gans.{FAMILIES[variant]}")
    return config, getattr(family, variant)(SimpleNamespace(**config), CPU, lambda function: function)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("variant", FAMILIES)
def test_a_twin_has_our_layers(variant, size):
    config, twin = twin_of(variant, size)
    module = importlib.import_module(f"pneumojax.gan.{variant}")
    state = jax.eval_shape(lambda: module.init(jax.random.key(0), config))
    for name, network in twin.networks.items():
        ours = [leaf.size for leaf in jax.tree.leaves(getattr(state, name)["params"])]
        theirs = [parameter.numel() for parameter in network.parameters()]
        assert sorted(ours) == sorted(theirs)


@pytest.mark.parametrize("variant", FAMILIES)
def test_a_step_trains_every_network_of_a_twin(variant):
    torch.manual_seed(0)
    config, twin = twin_of(variant, 32)
    before = {name: [p.clone() for p in network.parameters()] for name, network in twin.networks.items()}
    count = config.batch_size * config.d_steps
    images, labels = torch.rand(count, 1, 32, 32) * 2 - 1, torch.arange(count) % 2
    for _ in range(3):  # behind a layer that is zero at first nothing moves in the first step
        losses = twin.step(images, labels)
        assert losses
        assert all(torch.isfinite(loss) for loss in losses.values())
    for name, network in twin.networks.items():
        for old, new in zip(before[name], network.parameters(), strict=True):
            assert new.numel() == 1 or not torch.equal(old, new)  # a critic's last bias cancels out
