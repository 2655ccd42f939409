"""A SUBSTITUTE for `configs/kermany2018.py`, and no Inception V3: its way of training on a frozen SqueezeNet 1.1.

    python -m pneumojax.main --config=configs/kermany2018_squeezenet.py --config.data.dir=DIR

For where Inception's weights cannot be had. The paper's figure, 92.80, is of another network; `experiments.table3` says
so in its row. A file that lacks the last fire module's wide half and the head, as trunks do, will do.
"""

from configs import kermany2018


def get_config():
    """What differs, all of it ours."""
    c = kermany2018.get_config()
    c.model.name = "squeezenet"  # ours: the substitute
    c.model.image_size = 224  # ours: what the weights are for
    c.model.allow_missing = ("features.12.expand1x1", "classifier.1")  # ours: a trunk will do
    c.classifier.feature_dtype = "bfloat16"  # ours: a picture of 13 x 13 x 512 an image
    return c
