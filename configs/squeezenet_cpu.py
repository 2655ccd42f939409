"""SqueezeNet 1.1 from its ImageNet weights on the real images, at the size of `configs/resnet18_cpu.py`.

    python -m pneumojax.main --config=configs/squeezenet_cpu.py --config.data.dir=DIR

Its head, on standardised features. Under `clean`, without GAN, AUC 96.7 on the images outside the subset, 96.1 to 97.3
in 18 networks, of which none died (experiments/RESULTS.md). All layers:

    … --config.classifier.mode=full --config.classifier.standardise=False --config.classifier.learning_rate=1e-6
"""

from configs import resnet18_cpu


def get_config():
    """Trains the head on standardised features."""
    c = resnet18_cpu.get_config()
    c.model.name = "squeezenet"
    c.model.width = 64
    c.model.weights = "torchvision"
    c.model.allow_missing = ("features.12.expand1x1", "classifier.1")  # a trunk without its last layers will do
    c.classifier.mode = "head"
    c.classifier.learning_rate = 1e-2
    c.classifier.standardise = True  # features reach 330: without it 1e-5 is the most that a head stands
    c.classifier.feature_dtype = "bfloat16"
    return c
