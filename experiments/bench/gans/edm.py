"""EDM, small: `pneumojax.gan.edm_small`, without its augmentation, as its config has it."""

import math

import torch
from torch import nn
from torch.nn import functional

from experiments.bench.gans.adversarial import Twin, adam, averaging, computing, half_life, in_precision, move

SIGMA_DATA, P_MEAN, P_STD = 0.5, -1.2, 1.2


def norm(features: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(features, 8), features)


class Block(nn.Module):
    def __init__(self, inputs: int, features: int, embedded: int, dropout: float):
        super().__init__()
        self.first = nn.Sequential(norm(inputs), nn.SiLU(), nn.Conv2d(inputs, features, 3, padding=1))
        self.affine, self.norm = nn.Linear(embedded, 2 * features), norm(features)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(features, features, 3, padding=1))
        nn.init.zeros_(self.second[-1].weight)
        self.short = nn.Conv2d(inputs, features, 1) if inputs != features else nn.Identity()

    def forward(self, x, embedding):
        scale, shift = self.affine(embedding)[:, :, None, None].chunk(2, 1)
        y = self.second(self.norm(self.first(x)) * (1 + scale) + shift)
        return (self.short(x) + y) * 0.5**0.5


class UNet(nn.Module):
    def __init__(self, config, known: int = 15):
        super().__init__()
        wide, embedded = config.filters, 4 * config.filters
        self.embed = nn.Sequential(nn.Linear(known, embedded), nn.SiLU(), nn.Linear(embedded, embedded), nn.SiLU())
        self.first = nn.Conv2d(4, wide, 3, padding=1)
        halvings = 0
        while (side := config.image_size // 2 // 2**halvings) % 2 == 0 and side > 8:
            halvings += 1
        wides = [wide * min(4, 2**level) for level in range(halvings + 1)]

        def block(inputs: int, features: int) -> Block:
            return Block(inputs, features, embedded, config.dropout)

        *down, deepest = [block(*pair) for pair in zip([wide, *wides], wides, strict=False)]
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList([deepest, block(wides[-1], wides[-1])])
        skips = wides[-2::-1]
        self.up = nn.ModuleList([block(x + skip, skip) for x, skip in zip(wides[:0:-1], skips, strict=True)])
        self.last = nn.Sequential(norm(wide), nn.SiLU(), nn.Conv2d(wide, 4, 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)

    def forward(self, images, known):
        embedding = self.embed(known)
        x = self.first(functional.pixel_unshuffle(images, 2))
        skips = []
        for block in self.down:
            x = block(x, embedding)
            skips.append(x)
            x = functional.avg_pool2d(x, 2)
        for block in self.middle:
            x = block(x, embedding)
        for block in self.up:
            x = block(torch.cat([functional.interpolate(x, scale_factor=2), skips.pop()], 1), embedding)
        return functional.pixel_shuffle(self.last(x), 2)


def denoised(network: nn.Module, noisy, sigma):
    """Images with noise of deviations sigma [N, 1, 1, 1] → the expected ones."""
    total = (sigma**2 + SIGMA_DATA**2).sqrt()
    angles = sigma.flatten().log()[:, None] / 4 * 2.0 ** torch.arange(6, device=sigma.device)
    known = torch.cat([angles.cos(), angles.sin(), torch.zeros(len(sigma), 3, device=sigma.device)], 1)
    found = network(noisy / total, known).float()
    return (SIGMA_DATA / total) ** 2 * noisy + sigma * SIGMA_DATA / total * found


def edm_small(config, device, wrap) -> Twin:
    network = UNet(config).to(device, memory_format=torch.channels_last)
    optimizer = adam(network, config.generator_learning_rate, config)
    follow = averaging(network, half_life(10_000))

    def gradients(images, labels):
        sigma = (P_MEAN + P_STD * torch.randn(len(images), 1, 1, 1, device=device)).exp()
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        with computing(config, device):
            found = denoised(network, images + sigma * torch.randn_like(images), sigma)
        loss = (weight * (found - images).square()).mean()
        return torch.autograd.grad(loss, list(network.parameters())), loss.detach()

    run_gradients = wrap(gradients)

    def step(images, labels):
        found, loss = run_gradients(images, labels)
        move(optimizer, found)
        follow(len(images))
        return {"denoising_loss": loss}

    def forward(images, labels):
        return network(images, torch.zeros(len(images), 15, device=device))

    def update(images, labels):
        optimizer.step()
        follow(len(images))

    pieces = {"network": wrap(in_precision(forward, config, device)), "gradients": run_gradients, "optimiser": update}
    return Twin({"network": network}, step, pieces)
