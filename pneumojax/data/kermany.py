"""The published set (Kermany, Zhang, Goldbaum 2018; DOI 10.17632/rscbjbr9sj), as its download unpacks: a folder."""

from pneumojax.data import Images, folder
from pneumojax.errors import BadInput


def load(config, size: int) -> Images:
    """As `folder`. Errors: BadInput where `config.dir` is not given, since nothing is downloaded here yet."""
    if not config.dir:
        raise BadInput(
            "config.data.dir is empty and config.data.name='kermany' wants the published set: unpack its download (DOI "
            "10.17632/rscbjbr9sj) and pass --config.data.dir=DIR with the folders NORMAL and PNEUMONIA, at its top or "
            "below train, val and test; configs/demo.py runs without it"
        )
    return folder.load(config, size)
