"""Does a GAN help? Six training sets without a patient in common, all controls, a probe that always converges.

    python -m pneumojax.main --config=configs/augmentation.py --config.data.dir=DIR --config.model.weights=FILE
    python -m pneumojax.main --config=configs/augmentation.py:fastgan_small …      # another GAN of configs/

A fifth of all patients is the test of every trial; each trial trains on 187 NORMAL and 312 PNEUMONIA images of others,
of which a fifth of the patients choose the probe's penalty. The contrast that was chosen before any result: as many
generated images as real ones against the real ones again, AUC on the test, two-sided, alike within a point of it. The
design is that of section 12 of the project's notes: what two CPU cores do in some two hours, with two further runs
that take the first one's GANs from the cache: a second pair of GANs, and pairs that saw permuted labels, on two trials:

    … --config.trials="(0, 1)" --config.gan.seeds=2
    … --config.trials="(0, 1)" --config.arms="('without_gan', 'duplicated', 'generated', 'permuted')"
"""

import importlib

from configs import default

CONTROLS = ("without_gan", "duplicated", "low_resolution", "classical", "shuffled")
GENERATED = ("generated_quarter", "generated", "generated_4", "generated_only", "tested_on_generated")


def get_config(gan: str = "dcgan"):
    """Features of ImageNet's SqueezeNet at 224 pixels; `gan` is a config of this folder, of which c.gan is taken."""
    c = default.get_config()
    c.gan = importlib.import_module(f"configs.{gan}").get_config().gan
    c.gan.steps = 1500 if gan == "dcgan" else 500
    c.gan.log_every = 50
    c.trials = (0, 1, 2, 3, 4, 5)
    c.protocols = ("disjoint",)
    c.arms = CONTROLS + GENERATED
    c.enlarge = 5.0
    c.data.subset = (187, 312)
    c.model.name = "squeezenet"
    c.model.weights = "torchvision"
    c.system.name = "frozen_probe"
    c.classifier.flip = False
    c.gan.flip = False  # or generated images alone would be mirrored
    c.evaluate.inner = 0.2
    c.evaluate.score = "auc"
    c.evaluate.declared = ("disjoint", "test", "generated")
    return c
