"""FastGAN, small: `pneumojax.gan.fastgan_small`.

Convolutions of doubled pixels are written as such, as its users do: 36 products where our sub-pixel form has 16.
"""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from experiments.bench.gans import augment
from experiments.bench.gans.adversarial import Parts, Twin, half_life, trained


def convolution(inputs: int, outputs: int, side: int, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, bias=False, **options)


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.strength * torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)


def up_block(inputs: int, features: int, noisy: bool = False) -> nn.Sequential:
    """To twice the side; one with noise has a second convolution."""

    def unit(inputs: int) -> list[nn.Module]:
        noise = [Noise()] if noisy else []
        return [convolution(inputs, 2 * features, 3, padding=1), *noise, nn.BatchNorm2d(2 * features), nn.GLU(1)]

    return nn.Sequential(nn.Upsample(scale_factor=2), *unit(inputs), *(unit(features) if noisy else []))


def excitation(inputs: int, features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(4),
        convolution(inputs, features, 4),
        nn.SiLU(),
        convolution(features, features, 1),
        nn.Sigmoid(),
    )


class Generator(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config.image_size
        self.sides = [2**power for power in range(3, size.bit_length())]
        wide = {side: config.filters * size // side for side in (4, *self.sides)}
        self.first = nn.Linear(config.latent_dim, 32 * wide[4], bias=False)
        self.gated = nn.Sequential(nn.BatchNorm2d(2 * wide[4]), nn.GLU(1))
        self.ups = nn.ModuleList(
            [up_block(wide[side // 2], wide[side], number % 2 == 0) for number, side in enumerate(self.sides)]
        )
        self.links = nn.ModuleDict(
            {str(side): excitation(wide[side // 8], wide[side]) for side in self.sides if side >= 32}
        )
        self.last = nn.Sequential(convolution(wide[size], 1, 3, padding=1), nn.Tanh())

    def forward(self, latents, labels):
        x = self.first(latents).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        x = self.gated(x)
        at = {4: x}
        for side, up in zip(self.sides, self.ups, strict=True):
            x = up(x)
            if side >= 32:
                x = x * self.links[str(side)](at[side // 8])
            at[side] = x
        return self.last(x)


def normalised(features: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(features), nn.LeakyReLU(0.2, inplace=True)]


class DownBlock(nn.Module):
    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.main = nn.Sequential(
            convolution(inputs, features, 4, stride=2, padding=1),
            *normalised(features),
            convolution(features, features, 3, padding=1),
            *normalised(features),
        )
        self.short = nn.Sequential(nn.AvgPool2d(2), convolution(inputs, features, 1), *normalised(features))

    def forward(self, x):
        return (self.main(x) + self.short(x)) / 2


def decoder(inputs: int, filters: int, side: int) -> nn.Sequential:
    """Features at 8x8 → images."""
    sides = [2**power for power in range(4, side.bit_length())]
    wides = [inputs, *(filters * side // one for one in sides)]
    ups = [up_block(*pair) for pair in zip(wides[:-1], wides[1:], strict=True)]
    return nn.Sequential(*ups, convolution(wides[-1], 1, 3, padding=1), nn.Tanh())


class Discriminator(nn.Module):
    def __init__(self, config):
        super().__init__()
        wide, side = config.filters, config.image_size
        layers = [nn.Sequential(spectral_norm(convolution(1, wide, 3, padding=1)), nn.LeakyReLU(0.2, inplace=True))]
        while side > 8:
            layers.append(DownBlock(wide, 2 * wide))
            wide, side = 2 * wide, side // 2
        *layers, self.deepest = layers
        self.layers = nn.Sequential(*layers)
        self.logits = nn.Sequential(
            convolution(wide, wide, 1), *normalised(wide), spectral_norm(convolution(wide, 1, 4))
        )
        half = config.image_size // 2
        self.decoders = nn.ModuleList([decoder(inputs, config.filters, half) for inputs in (wide, wide // 2)])

    def forward(self, images, labels, which=None):
        """Logits [N, 5, 5]; with a number of each image's quarter the drawn images and quarters too."""
        before = self.layers(images)
        x = self.deepest(before)
        logits = self.logits(x)[:, 0]
        if which is None:
            return logits
        return logits, self.decoders[0](x), self.decoders[1](quarter(before, which))


def quarter(x, which):
    """[N, C, S, S] and numbers 0…3 [N] → [N, C, S/2, S/2]."""
    quarters = x.unflatten(3, (2, -1)).unflatten(2, (2, -1))
    return quarters[torch.arange(len(x), device=x.device), :, which // 2, :, which % 2]


def beyond(logits):
    return functional.relu(torch.empty_like(logits).uniform_(0.8, 1) + logits).mean()


def judge(weight: float):
    def losses(parts: Parts, images, fakes, labels):
        which = torch.randint(4, (len(images),), device=images.device)
        real, *drawn = (found.float() for found in parts.discriminator(images, labels, which))
        fake = parts.discriminator(fakes, labels).float()
        wanted = functional.avg_pool2d(images, 2), quarter(images, which)
        error = sum((one - other).abs().mean() for one, other in zip(drawn, wanted, strict=True))
        return beyond(-real) + beyond(fake) + weight * error, -fake.mean(), real

    return losses


def fastgan_small(config, device, wrap) -> Twin:
    parts = Parts(
        Generator(config),
        Discriminator(config),
        losses=(),
        augmentation=augment.diffaugment(config.policies),
        average=half_life(config.average_images),
        judge=judge(config.reconstruction),
    )
    return trained(parts, config, device, wrap)
