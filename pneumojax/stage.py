"""What a study trains, one thing at a time, and the seed of each: fields, of which names are made and never unmade."""

import hashlib
from typing import NamedTuple


class Stage(NamedTuple):
    """One GAN or one classifier of a study."""

    trial: int
    protocol: str
    arm: str = ""  # of a classifier
    gan: str = ""  # the class that a GAN makes, or `all`
    gan_seed: int = 0  # of several GANs of the same images; of an arm, whose images it is trained on
    classifier_seed: int = 0

    @property
    def name(self) -> str:
        """Where its files lie below `checkpoints`, `trial0/clean/with_gan`; also the prefix of TensorBoard's tags.

        Further seeds are told: `trial0/clean/gan1_normal`, `trial0/clean/with_gan-gan1-seed2`.
        """
        own = f"gan{self.gan_seed or ''}_{self.gan}"
        if self.arm:
            own = self.arm + (f"-gan{self.gan_seed}" if self.gan_seed else "")
            own += f"-seed{self.classifier_seed}" if self.classifier_seed else ""
        return f"trial{self.trial}/{self.protocol}/{own}"

    def fields(self) -> dict:
        """The fields that it has, as lines of `metrics.jsonl` begin with them; no seed is seed 0."""
        return {name: v for name, v in self._asdict().items() if v != "" and (v or not name.endswith("_seed"))}


def seed_of(seed: int, *what) -> int:
    """A seed of its own, 31 bits, for whatever is named, from the study's seed: any whole number."""
    text = "/".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
