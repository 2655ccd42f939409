"""Pneumonia classification with GAN-enlarged chest X-rays, under the paper's protocol and an honest one."""

__version__ = "0.1.0"
