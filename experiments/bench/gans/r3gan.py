"""R3GAN, narrow: `pneumojax.gan.r3gan_small`."""

import math

import torch
from torch import nn

from experiments.bench.gans.adversarial import Parts, Twin, half_life, r1_r2, relativistic, trained
from experiments.bench.gans.filters import doubling, halving

BLOCKS, GROUPS = 2, 2
GAIN = math.sqrt(2 / (1 + 0.2**2))


def stages(config) -> list[tuple[int, int]]:
    """(side, features) from 4x4 up."""
    size, filters = config.image_size, config.filters
    sides = [2**power for power in range(2, size.bit_length())]
    return [(side, filters * size // max(side, min(32, size))) for side in sides]


def linear(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution without bias; `nn.Linear` where nothing is spatial has the same numbers."""
    layer = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer


class Block(nn.Module):
    def __init__(self, features: int, blocks: int):
        super().__init__()
        wide = 2 * features
        layers = nn.Conv2d(features, wide, 1), nn.Conv2d(wide, wide, 3, padding=1, groups=GROUPS)
        for layer in layers:
            nn.init.normal_(layer.weight, std=GAIN * blocks**-0.25 * layer.weight[0].numel() ** -0.5)
            nn.init.zeros_(layer.bias)
        last = nn.Conv2d(wide, features, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            layers[0], nn.LeakyReLU(0.2, inplace=True), layers[1], nn.LeakyReLU(0.2, inplace=True), last
        )

    def forward(self, x):
        return x + self.layers(x)


def chain(path: list[tuple[int, int]], up: bool) -> nn.Sequential:
    """Blocks at each side of a path, between them what changes side and width."""
    layers, wide = [], path[0][1]
    for number, (_, features) in enumerate(path):
        change = [linear(wide, features)] if features != wide else []
        if number:
            layers += [*change, doubling()] if up else [halving(), *change]
        layers += [Block(features, BLOCKS * len(path)) for _ in range(BLOCKS)]
        wide = features
    return nn.Sequential(*layers)


class Generator(nn.Module):
    def __init__(self, config):
        super().__init__()
        path = stages(config)
        side, features = path[0]
        self.basis = nn.Parameter(torch.randn(features, side, side))
        self.first = linear(config.latent_dim, features)
        self.layers = nn.Sequential(chain(path, up=True), linear(path[-1][1], 1))

    def forward(self, latents, labels):
        x = self.basis * self.first(latents[:, :, None, None])
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    def __init__(self, config):
        super().__init__()
        path = stages(config)[::-1]
        side, features = path[-1]
        self.layers = nn.Sequential(linear(1, config.filters), chain(path, up=False))
        self.basis = nn.Parameter(torch.randn(features, side, side) / side)
        self.last = nn.Linear(features, 1, bias=False)

    def forward(self, images, labels):
        return self.last((self.layers(images) * self.basis).sum((2, 3)))[:, 0]


def r3gan_small(config, device, wrap) -> Twin:
    parts = Parts(Generator(config), Discriminator(config), relativistic, r1_r2(config.gamma))
    return trained(parts._replace(average=half_life(config.average_images)), config, device, wrap)
