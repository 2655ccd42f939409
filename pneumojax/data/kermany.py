"""The published set (Kermany, Zhang, Goldbaum 2018), prepared once by `python -m pneumojax.data.prepare`.

A TFDS builder that keeps the files as they were published, in ArrayRecord; no TensorFlow. ArrayRecord's checksums find
what a disk damages later. Where `data.dir` is given and holds no prepared set, it is a folder of images.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from pneumojax.data import CLASSES, PATIENT_PATTERN, Images, files, folder, layout
from pneumojax.errors import BadInput, describe
from pneumojax.paths import of

SUBTYPES = ("", *layout.SUBTYPES)
SHARD = 256  # images in a file, in the order of their names; one file is held in memory while it is made
PREPARED = "tfds"  # below config.data.cache, where nothing else is said


class Kermany(tfds.core.ShardBasedBuilder):
    """Chest X-ray images of children, NORMAL and PNEUMONIA, in the published folders `train`, `val` and `test`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The files as published."}
    URL = (
        "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
        "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded"
    )
    SHA256: str | None = None  # of the file at URL: not known where this was written; `prepare --sha256` pins it
    # what to prepare, what to record of it, the bar of images; set before `download_and_prepare`
    source: files.Source
    record: dict
    progress: tqdm

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            # stored as published, gray or RGB; decoded by TFDS to three channels, equal ones where it is gray
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=CLASSES),
            "subtype": tfds.features.ClassLabel(names=SUBTYPES),  # of pneumonia
            "name": tfds.features.Text(),  # path below the data directory
            "patient": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.17632/rscbjbr9sj",
            license="CC BY 4.0",
            citation=(
                "@data{rscbjbr9sj, title={Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for "
                "Classification}, author={Kermany, Daniel and Zhang, Kang and Goldbaum, Michael}, publisher={Mendeley "
                "Data}, year={2018}, doi={10.17632/rscbjbr9sj}}\n"
                "@article{kermany2018, title={Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep "
                "Learning}, author={Kermany, Daniel S. and Goldbaum, Michael and others}, journal={Cell}, "
                "volume={172}, number={5}, pages={1122--1131}, year={2018}, doi={10.1016/j.cell.2018.02.010}}"
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list]:
        del dl_manager  # its downloads begin anew after a break; prepare.py goes on
        splits: dict[str, list[str]] = {}
        for name, told in self.source.told.items():
            splits.setdefault(told.part or name.split("/")[0], []).append(name)
        self.info.metadata.update(self.record, names=splits)
        return {
            split: [
                functools.partial(self._examples, names[begin : begin + SHARD]) for begin in range(0, len(names), SHARD)
            ]
            for split, names in splits.items()
        }

    def _examples(self, names: list[str]) -> Iterator[tuple[str, dict]]:
        for name in names:
            try:
                content = self.source.read(name)
            except OSError as error:
                problem = f"{self.source.where}: {name}: {describe(error)}"
                raise BadInput(f"{problem}; mend that and prepare again") from error
            self.progress.update()
            example = {
                "image": content,
                "label": self.source.told[name].label,
                "subtype": self.source.told[name].subtype,
                "name": name,
                "patient": files.patient_key(name, PATIENT_PATTERN),
            }
            yield name, example


def load(config, size: int) -> Images:
    """The prepared set below `config.dir`, or where `prepare` puts it; or a folder of images, as `folder` reads it.

    Errors: BadInput where there is neither, and what `folder` says of images.
    """
    home = of(config.dir, "config.data.dir") if config.dir else of(config.cache, "config.data.cache") / PREPARED
    try:
        builder = Kermany(data_dir=home)
        prepared = source(builder, config.classes) if is_prepared(builder) else None
    except BadInput:
        raise
    except Exception as error:  # TFDS raises anything for damaged files
        problem = f"the prepared set in {home} is damaged ({describe(error)})"
        raise BadInput(f"{problem}; remove it and prepare it anew") from error
    if prepared:
        return files.images_of(prepared, config, size)
    if config.dir:
        return folder.load(config, size)
    raise BadInput(
        f"config.data.dir is empty and {home} holds no prepared set; run python -m pneumojax.data.prepare "
        "(with --from=ZIP or DIR where you have the download, DOI 10.17632/rscbjbr9sj), or pass "
        f"--config.data.dir=DIR with {folder.LAYOUT}; configs/demo.py runs without it"
    )


def is_prepared(builder: Kermany) -> bool:
    """Whether a set was prepared whole; TFDS itself warns where there is none at all."""
    return builder.data_path.exists() and builder.is_prepared()


def source(builder: Kermany, classes: Sequence[str] = CLASSES) -> files.Source:
    """The files of a prepared set, as they were published, that are of `classes`.

    Errors: BadInput where there is none.
    """
    places = {}  # name → its split and place there
    for split, names in builder.info.metadata["names"].items():
        records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        places |= {name: (records, index) for index, name in enumerate(names)}

    def read(name: str) -> bytes:
        records, index = places[name]
        try:
            example = records[index]
        except Exception as error:  # ArrayRecord raises anything for damaged files
            raise OSError(f"damaged in the prepared set ({describe(error)}): remove it and prepare anew") from error
        if example["name"] != name.encode():
            raise OSError("not in its place in the prepared set: remove it and prepare anew")
        return example["image"]

    signature = hashlib.sha256()
    for path in sorted(Path(builder.data_dir).iterdir()):
        signature.update(path.name.encode() + b"\0" + folder.stamp(path))
    _, told, left_out = layout.choose(places, classes, builder.data_dir)
    return files.Source(str(builder.data_dir), told, read, signature.hexdigest(), left_out)
