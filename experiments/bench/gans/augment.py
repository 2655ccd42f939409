"""DiffAugment and ADA as `pneumojax.gan.parts.augment` has them, by PyTorch's own operations: images [N, 1, S, S]."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

BLACK = -1.0


def uniform(images, low: float, high: float):
    return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high)


def normal(images, deviation: float):
    return deviation * torch.randn(len(images), 1, 1, 1, device=images.device)


def moved(images, scales, shifts, mode: str):
    """Images whose pixels come from scale · place + shift, [N, 2] (x, y) in -1…1 from side to side, black outside."""
    matrices = torch.cat([torch.diag_embed(scales), shifts[:, :, None]], 2)
    grid = functional.affine_grid(matrices, images.shape, align_corners=False)
    return functional.grid_sample(images.float() - BLACK, grid, mode, align_corners=False) + BLACK


def brightness(images):
    return images + uniform(images, -0.5, 0.5)


def contrast(images):
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * uniform(images, 0.5, 1.5) + mean


def translation(images):
    size, most = images.shape[2], round(images.shape[2] / 8)
    shifts = torch.randint(-most, most + 1, (len(images), 2), device=images.device) * (2 / size)
    return moved(images, torch.ones_like(shifts), shifts, "nearest")


def cutout(images):
    size, places = images.shape[2], torch.arange(images.shape[2], device=images.device)
    begins = torch.randint(0, size + 1, (2, len(images), 1), device=images.device) - size // 4
    rows, columns = (begins <= places) & (places < begins + size // 2)
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], BLACK)


POLICIES = {one.__name__: one for one in (brightness, contrast, translation, cutout)}


def diffaugment(policies: Sequence[str]) -> Callable:
    """All of `policies` on every image."""

    def augmentation(images):
        for name in policies:
            images = POLICIES[name](images)
        return images

    return augmentation


def adaptive(target: float, images: float, device, interval: int = 4) -> tuple[Callable, Callable]:
    """ADA: (augmentation, remember). The probability stays on the device, which nobody waits for."""
    p, signs, updates = torch.zeros((), device=device), torch.zeros((), device=device), 0

    def chosen(pictures):
        return torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < p

    def sometimes(changed, pictures):
        return torch.where(chosen(pictures), changed, pictures)

    def geometry(pictures):
        shift, scale, stretch = (chosen(pictures).view(-1, 1) for _ in range(3))
        shifts = shift * torch.randn(len(pictures), 2, device=pictures.device) / 4  # an eighth of -1…1
        along = stretch * normal(pictures, 0.2).view(-1, 1) * torch.tensor([1.0, -1.0], device=pictures.device)
        scales = torch.exp2(-(scale * normal(pictures, 0.2).view(-1, 1) + along))
        return torch.where(
            (shift | scale | stretch)[..., None, None], moved(pictures, scales, -shifts * scales, "bilinear"), pictures
        )

    def augmentation(pictures):
        pictures = geometry(pictures)
        pictures = sometimes(pictures + normal(pictures, 0.2), pictures)
        pictures = sometimes(pictures * torch.exp2(normal(pictures, 0.5)), pictures)
        pictures = sometimes(pictures + normal(pictures, 0.1).abs() * torch.randn_like(pictures), pictures)
        return sometimes(cutout(pictures), pictures)

    def remember(real) -> None:
        nonlocal updates
        updates += 1
        signs.add_(real.sign().mean())
        if updates % interval == 0:
            p.add_((signs / interval - target).sign() * (len(real) * interval / images)).clamp_(0, 1)
            signs.zero_()

    return augmentation, remember
