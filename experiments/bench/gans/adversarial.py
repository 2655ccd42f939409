"""How the adversarial GANs are trained: an update of both networks as a PyTorch user writes it who counts its cost.

One forward pass of each network serves the losses of both, which XLA finds in ours too, but not where D has spectral
norms: there each pass of ours has a power iteration of its own. Gradients are asked for where they are used alone. With
`wrap` = torch.compile what gives the gradients, penalties included, is one program.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional


def judged(parts: "Parts", images, fakes, labels):
    """The losses of a discriminator that gives a logit an image, its penalty included."""
    real, fake = (parts.discriminator(pictures, labels).float() for pictures in (images, fakes))
    d_loss = parts.losses[0](real, fake)
    if parts.penalty:
        d_loss = d_loss + parts.penalty(critic_of(parts, labels), images, fakes)
    return d_loss, parts.losses[1](fake, real), real


def critic_of(parts: "Parts", labels) -> Callable:
    """The discriminator as a function of images, the first ones of a batch."""
    return lambda images: parts.discriminator(images, labels[: len(images)])


class Parts(NamedTuple):
    """A composition, as `pneumojax.gan.parts.adversarial.Parts`; networks are called with (latents or images, labels).

    Attributes:
      penalty: (critic, real, fakes) → scalar.
      augmentation: images → images.
      average: (images seen, images of this step) → decay.
      remember: called with D's logits of real images once an update.
      judge: (parts, images, fakes, labels), as D sees them → (D's loss, G's loss, D's logits of real images).
    """

    generator: nn.Module
    discriminator: nn.Module
    losses: tuple[Callable, Callable]
    penalty: Callable | None = None
    augmentation: Callable = lambda images: images
    average: Callable | None = None
    remember: Callable = lambda real: None
    judge: Callable = judged


class Twin(NamedTuple):
    """A network in training.

    Attributes:
      networks: name, as in our state → module.
      step: (images [N, 1, S, S] in [-1, 1], labels int64 [N]) → losses by name, N of all of D's batches together.
      pieces: name → (images, labels of a batch) → anything: what a step consists of, each to be timed alone.
    """

    networks: dict[str, nn.Module]
    step: Callable
    pieces: dict[str, Callable]


def bce(logits, real: bool):
    return functional.softplus(-logits if real else logits).mean()


non_saturating = (lambda real, fake: bce(real, True) + bce(fake, False), lambda fake, real: bce(fake, True))
hinge = (
    lambda real, fake: functional.relu(1 - real).mean() + functional.relu(1 + fake).mean(),
    lambda fake, real: -fake.mean(),
)
least_squares = (
    lambda real, fake: ((real - 1).square().mean() + fake.square().mean()) / 2,
    lambda fake, real: (fake - 1).square().mean() / 2,
)
wasserstein = (lambda real, fake: fake.mean() - real.mean(), lambda fake, real: -fake.mean())
relativistic = (lambda real, fake: bce(real - fake, True), lambda fake, real: bce(fake - real, True))


def squared_slopes(critic: Callable, images):
    """|gradient of a logit at its image|² [N], to be differentiated once more."""
    images = images.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return slopes.float().square().sum((1, 2, 3))


def r1_r2(gamma: float) -> Callable:
    return lambda critic, real, fakes: (
        gamma / 2 * (squared_slopes(critic, real).mean() + squared_slopes(critic, fakes).mean())
    )


def gradient_penalty(weight: float) -> Callable:
    def penalty(critic, real, fakes):
        between = torch.rand(len(real), 1, 1, 1, device=real.device)
        squares = squared_slopes(critic, torch.lerp(fakes.detach().float(), real, between))
        return weight * ((squares + 1e-12).sqrt() - 1).square().mean()

    return penalty


def half_life(images: float) -> Callable:
    """As `pneumojax.gan.parts.ema.half_life`."""
    return lambda seen, batch: 0.5 ** (batch / min(images, 0.05 * seen))


def computing(config, device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16")


def adam(module: nn.Module, rate: float, config) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), rate, (config.beta1, config.beta2), fused=True)


def move(optimizer: torch.optim.Optimizer, gradients) -> None:
    for parameter, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def averaging(module: nn.Module, decay_of: Callable) -> Callable:
    """A function of a batch's size that lets a copy of a module follow it, in place, batch statistics included."""

    def numbers(module):
        return [tensor for tensor in module.state_dict().values() if tensor.is_floating_point()]

    average, seen = copy.deepcopy(module).requires_grad_(False), 0

    @torch.no_grad()
    def follow(batch: int) -> None:
        nonlocal seen
        seen += batch
        torch._foreach_lerp_(numbers(average), numbers(module), 1 - decay_of(seen, batch))

    return follow


def trained(parts: Parts, config, device, wrap: Callable) -> Twin:
    """A twin of what `adversarial.functions` makes of our `Parts`."""
    g, d = (module.to(device, memory_format=torch.channels_last) for module in parts[:2])
    g_optimizer = adam(g, config.generator_learning_rate, config)
    d_optimizer = adam(d, config.discriminator_learning_rate, config)
    follow = averaging(g, parts.average) if parts.average else lambda batch: None

    def generate(images, labels):
        return g(torch.randn(len(images), config.latent_dim, device=device), labels)

    def gradients(images, labels, both: bool):
        with computing(config, device):
            with torch.set_grad_enabled(both):
                fakes = generate(images, labels)
            d_loss, g_loss, real = parts.judge(parts, parts.augmentation(images), parts.augmentation(fakes), labels)
        d_gradients = torch.autograd.grad(d_loss, list(d.parameters()), retain_graph=both)
        g_gradients = torch.autograd.grad(g_loss, list(g.parameters())) if both else ()
        return d_gradients, g_gradients, real.detach(), {"d_loss": d_loss.detach(), "g_loss": g_loss.detach()}

    run_gradients = wrap(gradients)

    def step(images, labels):
        for number in range(config.d_steps):
            last = number == config.d_steps - 1
            batch = (array[number :: config.d_steps] for array in (images, labels))
            d_gradients, g_gradients, real, losses = run_gradients(*batch, last)
            move(d_optimizer, d_gradients)
            parts.remember(real)
        move(g_optimizer, g_gradients)
        follow(len(images) // config.d_steps)
        return losses

    def penalty(images, labels):
        with computing(config, device):
            value = parts.penalty(critic_of(parts, labels), images, images.flip(0))
        return torch.autograd.grad(value, list(d.parameters()), allow_unused=True)

    def update(images, labels):
        for optimizer in (d_optimizer, g_optimizer):  # of gradients as the last step left them
            optimizer.step()
        follow(len(images))

    pieces = {
        "G": wrap(in_precision(generate, config, device)),
        "D": wrap(in_precision(d, config, device)),
        "gradients": lambda images, labels: run_gradients(images, labels, True),
        "optimiser": update,
    }
    if parts.penalty:
        pieces["penalty"] = wrap(penalty)
    if parts.augmentation is not Parts._field_defaults["augmentation"]:
        pieces["augmentation"] = wrap(lambda images, labels: parts.augmentation(images))
    return Twin({"generator": g, "discriminator": d}, step, pieces)


def in_precision(network: Callable, config, device) -> Callable:
    def forward(*inputs):
        with computing(config, device):
            return network(*inputs)

    return forward
