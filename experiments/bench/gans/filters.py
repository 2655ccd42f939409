"""StyleGAN2's filter (1, 3, 3, 1) as convolutions of each channel, which PyTorch is fastest at without own kernels."""

import torch
from torch import nn
from torch.nn import functional


class Filter(nn.Module):
    """[N, C, S, S] → [N, C, S + 2 padding - 3, …], every `stride`-th pixel; or to twice the side.

    Weights add up to `total`.
    """

    def __init__(self, padding: int = 1, stride: int = 1, up: bool = False, total: float = 1.0):
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        weights = row[:, None] * row * ((4 if up else total) / 64)
        self.register_buffer("weights", weights, persistent=False)  # no number that is trained or averaged
        self.padding, self.stride, self.up = padding, stride, up

    def forward(self, x):
        kernels = self.weights.to(x.dtype).expand(x.shape[1], 1, 4, 4)
        if self.up:
            return functional.conv_transpose2d(x, kernels, stride=2, padding=1, groups=x.shape[1])
        return functional.conv2d(x, kernels, stride=self.stride, padding=self.padding, groups=x.shape[1])


def doubling() -> Filter:
    return Filter(up=True)


def halving() -> Filter:
    return Filter(stride=2)
