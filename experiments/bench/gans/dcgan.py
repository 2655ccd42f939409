"""DCGAN and the variants that share its layers: 4x4 convolutions that halve and double."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from experiments.bench.gans import adversarial, augment
from experiments.bench.gans.adversarial import Parts, Twin, half_life, trained


def widths(config) -> list[int]:
    return [config.filters * 2**halvings for halvings in range(config.image_size.bit_length() - 3)]


class ConditionalBatchNorm(nn.Module):
    """A scale and a bias by the label."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(features, affine=False)
        self.scale, self.bias = nn.Embedding(classes, features), nn.Embedding(classes, features)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x, labels):
        return self.norm(x) * self.scale(labels)[:, :, None, None] + self.bias(labels)[:, :, None, None]


class Generator(nn.Module):
    def __init__(self, config, classes: int = 0):
        super().__init__()
        wide, *others = widths(config)[::-1]
        self.first = nn.Linear(config.latent_dim, 16 * wide, bias=False)
        self.conditional = classes > 0
        self.norms, self.ups = nn.ModuleList(), nn.ModuleList()
        for features in (*others, 1):
            self.norms.append(ConditionalBatchNorm(wide, classes) if classes else nn.BatchNorm2d(wide))
            self.ups.append(nn.ConvTranspose2d(wide, features, 4, 2, 1, bias=features == 1))
            wide = features

    def forward(self, latents, labels):
        x = self.first(latents).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = up(functional.relu(norm(x, labels) if self.conditional else norm(x), inplace=True))
        return torch.tanh(x)


class Discriminator(nn.Module):
    def __init__(self, config, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, classes: int = 0):
        super().__init__()
        wide, *others = widths(config)
        layers = [nn.Conv2d(1, wide, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for features in others:
            layers += [nn.Conv2d(wide, features, 4, 2, 1, bias=False), norm(features), nn.LeakyReLU(0.2, inplace=True)]
            wide = features
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.last = nn.Linear(16 * wide, 1)
        self.embedding = nn.Embedding(classes, 16 * wide) if classes else None

    def forward(self, images, labels):
        x = self.layers(images)
        logits = self.last(x)[:, 0]
        return logits + (self.embedding(labels) * x).sum(1) if self.embedding else logits


class Critic(nn.Module):
    """hinge_sn's."""

    def __init__(self, config):
        super().__init__()
        layers, wide = [], 1
        for features in widths(config):
            layers += [spectral_norm(nn.Conv2d(wide, features, 4, 2, 1)), nn.LeakyReLU(0.1, inplace=True)]
            wide = features
        self.layers = nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(16 * wide, 1)))

    def forward(self, images, labels):
        return self.layers(images)[:, 0]


def composed(config) -> Parts:
    return Parts(Generator(config), Discriminator(config), adversarial.non_saturating)


def dcgan(config, device, wrap) -> Twin:
    return trained(composed(config), config, device, wrap)


def dcgan_conditional(config, device, wrap) -> Twin:
    classes = config.num_classes
    networks = Generator(config, classes), Discriminator(config, classes=classes)
    return trained(Parts(*networks, adversarial.non_saturating), config, device, wrap)


def lsgan(config, device, wrap) -> Twin:
    return trained(composed(config)._replace(losses=adversarial.least_squares), config, device, wrap)


def hinge_sn(config, device, wrap) -> Twin:
    return trained(Parts(Generator(config), Critic(config), adversarial.hinge), config, device, wrap)


def wgan_gp(config, device, wrap) -> Twin:
    critic = Discriminator(config, lambda features: nn.GroupNorm(1, features))  # all of an image, as our layer norm
    penalty = adversarial.gradient_penalty(config.penalty)
    return trained(Parts(Generator(config), critic, adversarial.wasserstein, penalty), config, device, wrap)


def dcgan_diffaug(config, device, wrap) -> Twin:
    augmentation, average = augment.diffaugment(config.policies), half_life(config.average_images)
    return trained(composed(config)._replace(augmentation=augmentation, average=average), config, device, wrap)


def dcgan_ada(config, device, wrap) -> Twin:
    augmentation, remember = augment.adaptive(config.ada_target, config.ada_images, device)
    parts = composed(config)._replace(augmentation=augmentation, remember=remember)
    return trained(parts._replace(average=half_life(config.average_images)), config, device, wrap)
