"""Pneumonia classification with GAN-enlarged chest X-rays, under the paper's protocol and an honest one."""

__version__ = "0.2.0"

import sys

from pneumojax import runtime

if sys.argv[:1] == ["-m"]:  # as it is while Python looks for the module of `python -m pneumojax.…`
    runtime.configure()  # before anything imports jax
