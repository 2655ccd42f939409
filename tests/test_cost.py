"""The table of what networks cost: counts, and memory of a small network."""

import pytest

from experiments.bench import cost
from pneumojax import lookup, models
from pneumojax.models import xception


def test_every_network_has_its_published_numbers():
    """But those of the paper's table 3, which are of no released code."""
    ours = {"liang2019", "plain", "saraiva2019", "stephen2019", "wu2020"}
    assert {*cost.PUBLISHED} == {*lookup.names("pneumojax.models", "Model")} - ours


@pytest.mark.parametrize("name", ["alexnet", "squeezenet", "googlenet", "resnet18", "vgg16"])
def test_multiply_adds_are_the_published_ones(name):
    """torchvision's count what a pool and a norm take as well, and so are up to a hundredth higher."""
    parameters, adds = cost.counts(models.load(name)(), 224)
    assert parameters == cost.PUBLISHED[name][0]
    assert adds / 1e9 == pytest.approx(cost.PUBLISHED[name][1], rel=0.01)


def test_channels_in_groups_are_counted_once():
    """Xception by hand."""
    model = xception.Model()
    one = cost.counts(model, 35)[1]
    stem = 17 * 17 * 27 * 32 + 15 * 15 * 9 * 32 * 64
    blocks, inputs, side = 0, 64, 15
    for features, halving in xception.BLOCKS.values():
        before = inputs
        for count in features:
            blocks += side**2 * inputs * (9 + count)
            inputs = count
        if halving:
            side = -(-side // 2)
            blocks += side**2 * before * inputs
    last = side**2 * (1024 * (9 + 1536) + 1536 * (9 + 2048)) + 2048 * 1000
    assert one == stem + blocks + last


def test_a_step_holds_its_parameters_and_pictures():
    small = models.load("alexnet")(num_classes=2, width=4)
    parameters, _ = cost.counts(small, 64)
    pictures = cost.BATCH * 64 * 64 * 3 * 4
    assert 8 * parameters + pictures < cost.memory(small, 64) < 10 * (8 * parameters + pictures)  # and momentum
