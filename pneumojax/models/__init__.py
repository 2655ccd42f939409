"""Classifiers, one module each with one `Model`, looked up by name.

    Model(num_classes=K).apply(variables, images, train=False) -> logits [N, K]

Images are float32 [N, H, W, 3], normalised with ImageNet's mean and standard deviation. Batch statistics, where there
are any, are the collection `batch_stats`; dropout draws from the key `dropout`. A Model that can be cut has `STAGES`
and takes `begin` and `end`. A stage that flattens a picture is to use `layers.channels_first`, for the sake of
`pneumojax.saliency`.
"""

import dataclasses

import flax.linen as nn

from pneumojax import lookup


def load(name: str, field: str = "config.model.name") -> type[nn.Module]:
    """The Model of a module. Errors: BadInput for an unknown name, of a `field`."""
    return lookup.load("pneumojax.models", name, "Model", field).Model


def fields(name: str) -> dict:
    """The fields of a Model that a config may set in `config.model`, with their defaults: its own plain values."""
    own = [field for field in dataclasses.fields(load(name)) if field.name not in ("num_classes", "parent", "name")]
    return {field.name: field.default for field in own if isinstance(field.default, bool | int | float | str | tuple)}


def build(config, num_classes: int) -> nn.Module:
    """The network of `config.model`, with the options that its published weights imply where weights are given."""
    model = load(config.name)
    options = getattr(model, "WITH_WEIGHTS", {}) if config.weights != "none" else {}
    return model(num_classes=num_classes, **{name: config[name] for name in fields(config.name)} | options)
