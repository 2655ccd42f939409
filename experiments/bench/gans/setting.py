"""What a benchmark of GANs is about: a variant at sizes of its own, on both sides.

Functions import jax and PyTorch themselves, each in the process of its side.
"""

import importlib
from typing import NamedTuple

import numpy as np

FAMILIES = {  # variant → module of experiments/bench/gans that has its twin
    "dcgan": "dcgan",
    "dcgan_conditional": "dcgan",
    "lsgan": "dcgan",
    "hinge_sn": "dcgan",
    "wgan_gp": "dcgan",
    "dcgan_diffaug": "dcgan",
    "dcgan_ada": "dcgan",
    "r3gan_small": "r3gan",
    "fastgan_small": "fastgan",
    "stylegan2_small": "stylegan2",
    "edm_small": "edm",
}
IMAGES = 512


class Setting(NamedTuple):
    """What is timed; `compiled` is PyTorch's alone."""

    variant: str
    filters: int
    batch: int
    size: int  # pixels
    steps: int  # in a round
    compiled: bool = False
    dtype: str = ""  # of ours; by the device if not given


def images_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise: uint8 [IMAGES, size, size] and its labels."""
    pictures = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size), np.uint8)
    return pictures, np.arange(IMAGES, dtype=np.int32) % 2


def config_of(setting: Setting, dtype: str):
    """The variant's `config.gan`, its own fields included, at the setting's sizes."""
    from ml_collections import FrozenConfigDict

    module = importlib.import_module(f"pneumojax.gan.{setting.variant}")
    fields = dict(importlib.import_module(f"configs.{setting.variant}").get_config().gan)
    sizes = {"filters": setting.filters, "batch_size": setting.batch, "image_size": setting.size, "dtype": dtype}
    return FrozenConfigDict({**getattr(module, "DEFAULTS", {}), **fields, **sizes})


def rows_of(config, steps: int) -> np.ndarray:
    """Rows of the images for each step: [steps, batches of D together]."""
    rng, count = np.random.default_rng(0), config.d_steps * config.batch_size
    return rng.integers(0, IMAGES, (steps, count), np.int32)


def our_config(setting: Setting):
    """As `config_of`, in the precision of the device."""
    from pneumojax import runtime

    runtime.configure()  # before jax is imported
    import jax

    return config_of(setting, setting.dtype or ("bfloat16" if jax.default_backend() == "gpu" else "float32"))


def twin_of(setting: Setting):
    """PyTorch's network in training: (twin, config, device)."""
    from types import SimpleNamespace

    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 where bfloat16 is not
    config = SimpleNamespace(**config_of(setting, "bfloat16" if device.type == "cuda" else "float32"))
    torch._dynamo.config.trace_autograd_ops = True  # so that gradients of gradients are compiled too
    wrap = torch.compile if setting.compiled else lambda function: function
    family = importlib.import_module(f"experiments.bench.gans.{FAMILIES[setting.variant]}")
    return getattr(family, setting.variant)(config, device, wrap), config, device


def finish(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
