"""StyleGAN2, small: `pneumojax.gan.stylegan2_small`."""

import math

import torch
from torch import nn
from torch.nn import functional

from experiments.bench.gans import augment
from experiments.bench.gans.adversarial import Parts, Twin, half_life, non_saturating, squared_slopes, trained
from experiments.bench.gans.filters import Filter, doubling, halving

WIDEST = 512


def widths(config) -> dict[int, int]:
    """Side → features."""
    sides = [2**power for power in range(2, config.image_size.bit_length())]
    return {side: min(WIDEST, config.filters * config.image_size // side) for side in sides}


def activated(x):
    return functional.leaky_relu(x, 0.2) * math.sqrt(2)


class Linear(nn.Module):
    """With an equalised learning rate, `rate` of the usual one."""

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate, self.scale = rate, rate / math.sqrt(inputs)

    def forward(self, x):
        return functional.linear(x, self.weight * self.scale, self.bias * self.rate)


class Convolution(nn.Module):
    """With an equalised learning rate; `down` filters and halves."""

    def __init__(self, inputs: int, outputs: int, side: int = 3, down: bool = False, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.padding = (inputs * side**2) ** -0.5, side // 2
        self.filter = Filter(padding=2) if down else None

    def forward(self, x):
        weight = self.weight * self.scale
        if self.filter is not None:
            return functional.conv2d(self.filter(x), weight, self.bias, stride=2)
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


class StyledConvolution(nn.Module):
    """Modulated in the form that StyleGAN2-ADA trains with: inputs and outputs are scaled, the kernel is shared."""

    def __init__(self, inputs: int, outputs: int, latent_dim: int, up: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias, self.strength = nn.Parameter(torch.zeros(outputs)), nn.Parameter(torch.zeros(()))
        self.style = Linear(latent_dim, inputs, bias=1.0)
        self.scale, self.filter = (inputs * 9) ** -0.5, Filter(total=4.0) if up else None

    def forward(self, x, style):
        weight, scales = self.weight * self.scale, self.style(style)
        x = x * scales[:, :, None, None]
        if self.filter is not None:
            x = self.filter(functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = functional.conv2d(x, weight, padding=1)
        norms = (scales.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        noise = self.strength * torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        y = x * norms.to(x.dtype)[:, :, None, None] + noise  # float32 would spread through bfloat16
        return activated(y + self.bias.to(x.dtype)[:, None, None])


class ToGray(nn.Module):
    def __init__(self, inputs: int, latent_dim: int):
        super().__init__()
        self.style, self.layer = Linear(latent_dim, inputs, bias=1.0), Convolution(inputs, 1, 1)

    def forward(self, x, style):
        return self.layer(x * self.style(style)[:, :, None, None])


class Generator(nn.Module):
    def __init__(self, config):
        super().__init__()
        z, features = config.latent_dim, widths(config)
        wide, *others = features.values()
        self.mapping = nn.ModuleList([Linear(z, z, rate=0.01) for _ in range(2)])
        self.start = nn.Parameter(torch.randn(wide, 4, 4))
        self.first, self.first_gray = StyledConvolution(wide, wide, z), ToGray(wide, z)
        self.doubled = doubling()
        self.ups, self.sames, self.grays = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for new in others:
            self.ups.append(StyledConvolution(wide, new, z, up=True))
            self.sames.append(StyledConvolution(new, new, z))
            self.grays.append(ToGray(new, z))
            wide = new

    def forward(self, latents, labels):
        style = latents * (latents.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            style = activated(layer(style))
        x = self.start.expand(len(latents), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.first(x, style)
        images = self.first_gray(x, style)
        for up, same, gray in zip(self.ups, self.sames, self.grays, strict=True):
            x = same(up(x, style), style)
            images = self.doubled(images) + gray(x, style)
        return images


class Block(nn.Module):
    """Residual, to half the side."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.same, self.down = Convolution(inputs, inputs), Convolution(inputs, outputs, down=True)
        self.short = nn.Sequential(halving(), Convolution(inputs, outputs, 1, bias=False))

    def forward(self, x):
        y = activated(self.down(activated(self.same(x))))
        return (y + self.short(x)) * math.sqrt(0.5)


class Discriminator(nn.Module):
    def __init__(self, config):
        super().__init__()
        features = list(widths(config).values())[::-1]
        wide = features[-1]
        self.first = Convolution(1, features[0], 1)
        self.blocks = nn.Sequential(*[Block(*pair) for pair in zip(features[:-1], features[1:], strict=True)])
        self.same = Convolution(wide + 1, wide)
        self.dense, self.last = Linear(16 * wide, wide), Linear(wide, 1)

    def forward(self, images, labels):
        x = self.blocks(activated(self.first(images)))
        x = activated(self.same(torch.cat([x, deviation(x)], 1)))
        return self.last(activated(self.dense(x.flatten(1))))[:, 0]


def group(images: int) -> int:
    return math.gcd(images, 4)


def deviation(x):
    """Of a group of neighbours, as one more feature."""
    size = group(len(x))
    found = (x.unflatten(0, (-1, size)).float().var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return found.to(x.dtype).repeat_interleave(size).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])


def r1(gamma: float):
    """At the first group of real images, as ours."""
    return lambda critic, real, fakes: gamma / 2 * squared_slopes(critic, real[: group(len(real))]).mean()


def stylegan2_small(config, device, wrap) -> Twin:
    parts = Parts(
        Generator(config),
        Discriminator(config),
        non_saturating,
        penalty=r1(config.gamma * config.image_size**2 / config.batch_size),
        augmentation=augment.diffaugment(config.policies),
        average=half_life(config.average_images),
    )
    return trained(parts, config, device, wrap)
