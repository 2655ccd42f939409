"""Prepares the published set once: `python -m pneumojax.data.prepare [--from=ZIP|DIR]`; then `data.name='kermany'`."""

import grp
import hashlib
import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from pneumojax import checkpoint, cli
from pneumojax.data import archive, download, files, folder, kermany, layout
from pneumojax.errors import BadInput
from pneumojax.names import printable

PUBLISHED = 5856  # images of the published set


def prepare(source: files.Source, home: Path, record: dict) -> kermany.Kermany:
    """Writes the files of `source` as ArrayRecord below `home`, with a progress bar; whole or not at all.

    Args:
      source: of the files.
      home: TFDS's data directory.
      record: goes into the metadata of the prepared set: `origin`, where it is from, and `sha256`, None of a folder.

    Errors: BadInput where `source` does not have the published folders, or a file cannot be read.
    """
    parts = sorted({told.part or name.split("/")[0] for name, told in source.told.items()})
    if not {"train", "test"} <= set(parts):
        raise BadInput(
            f"{source.where} has the folders {', '.join(parts)} and not train and test, as the published set has; "
            "a folder of another kind is used as it is: --config.data.name=folder --config.data.dir=DIR"
        )
    for name in source.names:
        if not name.isprintable():
            raise BadInput(f"{source.where}: {name!r} is no name in UTF-8; rename it")
    check_account()
    builder = kermany.Kermany(data_dir=home)
    for broken_off in builder.data_path.parent.glob("incomplete.*"):
        shutil.rmtree(broken_off)
    builder.source, builder.record = source, record
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    tfds.disable_progress_bar()  # there is one for all of it
    with tqdm(desc="preparing", total=len(source.names), unit=" images", mininterval=0.5) as builder.progress:
        builder.download_and_prepare(file_format="array_record", download_config=config)
    return builder


def check_account() -> None:
    """Errors: BadInput where this process has a user id that no account has, for whose name TFDS asks the system."""
    try:
        pwd.getpwuid(os.geteuid()), grp.getgrgid(os.getegid())
    except KeyError as error:
        raise BadInput(
            f"{error.args[0]}: the set is prepared by a user with an account alone; "
            "a folder is used as it is by any: --config.data.name=folder --config.data.dir=DIR"
        ) from error


def missing(path: Path) -> str:
    """Why a file or folder cannot be had, as the end of a sentence on it; '' where it is there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be had ({error.strerror})"
    return ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares the X-rays of Kermany, Zhang and Goldbaum (2018; CC BY 4.0; 1.2 GB) for `data.name='kermany'`."""
    parser = cli.Parser(prog="python -m pneumojax.data.prepare", description=main.__doc__)
    parser.add_argument("--from", dest="origin", type=cli.path, help="a zip or a folder; else the set is downloaded")
    parser.add_argument("--out", type=cli.path, default=f"~/.cache/pneumojax/{kermany.PREPARED}", help="%(default)s")
    parser.add_argument("--url", default=kermany.Kermany.URL, help="of the download; %(default)s")
    parser.add_argument("--sha256", default=kermany.Kermany.SHA256, help="that the download or the zip must have")
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
        home = options.out
    with cli.exit_codes(home, "--out"), checkpoint.held(home, "--out"):
        if kermany.is_prepared(kermany.Kermany(data_dir=home)):
            cli.show(printable(f"{home} is prepared; remove it to prepare it anew"))
            return
        origin, digest = options.origin, None
        if origin is None:
            origin = home / "downloads" / f"{hashlib.sha256(options.url.encode()).hexdigest()[:12]}.zip"
            digest = download.fetch(options.url, origin, options.sha256)
        elif why := missing(origin):
            raise BadInput(f"--from={origin} {why}; give the downloaded zip or its unpacked folder")
        elif not os.path.isdir(origin):
            digest = download.digest_of(origin)
            if options.sha256 and digest != options.sha256.lower():
                raise BadInput(f"--from={origin} has the SHA-256 {digest} and not {options.sha256}: not used")
        record = {"origin": origin.name if options.origin else options.url, "sha256": digest}
        if digest:
            pin = "" if options.sha256 else " (pin it: --sha256)"
            cli.show(printable(f"SHA-256 of {record['origin']}: {digest}{pin}"))
        try:
            source = folder.source(origin) if os.path.isdir(origin) else archive.source(origin)
            if len(source.names) != PUBLISHED:
                cli.show(f"{len(source.names)} images; the published set has {PUBLISHED}")
            if source.left_out:
                cli.show(printable(f"left out: {layout.listed(source.left_out)}"))
            builder = prepare(source, home, record)
        except BadInput:
            if options.origin is None:
                origin.unlink()  # or the next run would take it again
            raise
        if options.origin is None:
            origin.unlink()
        count = builder.info.splits.total_num_examples
        cli.show(printable(f"{count} images in {builder.data_dir}; use --config.data.name=kermany"))


if __name__ == "__main__":
    main()
