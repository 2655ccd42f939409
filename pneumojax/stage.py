"""What a study trains, one thing at a time, and the seed of each: fields, of which names are made and never unmade."""

import hashlib
from typing import NamedTuple


class Stage(NamedTuple):
    """One GAN or one classifier of a study."""

    trial: int
    protocol: str
    arm: str = ""  # of a classifier
    gan: str = ""  # the class that a GAN makes, or `all`

    @property
    def name(self) -> str:
        """Where its files lie below `checkpoints`, `trial0/clean/with_gan`; also the prefix of TensorBoard's tags."""
        return f"trial{self.trial}/{self.protocol}/{self.arm or f'gan_{self.gan}'}"

    def fields(self) -> dict:
        """The fields that it has, as lines of `metrics.jsonl` begin with them."""
        return {field: value for field, value in self._asdict().items() if value != ""}


def seed_of(seed: int, *what) -> int:
    """A seed of its own, 31 bits, for whatever is named, from the study's seed: any whole number."""
    text = "/".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
