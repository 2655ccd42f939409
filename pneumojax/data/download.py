"""Fetches one large file: goes on after a break, also of the process, and checks length and hash."""

import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from absl import logging
from tqdm import tqdm

from pneumojax.errors import BadInput, describe
from pneumojax.paths import named

ATTEMPTS = 5  # in a row that bring nothing
PAUSE = 1.0  # seconds after the first of these, twice that after the second, …
TIMEOUT = 30  # seconds without a byte
CHUNK = 2**20  # bytes
BREAKS = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)


def fetch(url: str, path: Path, sha256: str | None = None) -> str:
    """Downloads `url` to `path`, which appears whole or not at all. What a break leaves is `<path>.partial`.

    Args:
      url: of the file.
      path: where it goes; one that is there already is only checked.
      sha256: that it must have, in hexadecimal; None: any.

    Returns: its SHA-256.

    Errors: BadInput where it cannot be had or has another hash, in which case nothing of it is left.
    """
    partial = path.with_name(f"{path.name}.partial")
    remedy = f"fetch {url} where there is a network and pass it as --from=FILE"
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = most = 0
    while not path.exists():
        try:
            if download_rest(url, partial):
                partial.replace(path)
                break
            problem = "it broke off"
        except (ValueError, http.client.InvalidURL) as error:
            raise BadInput(f"{url}: {describe(error)}; pass another --url") from error
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise BadInput(f"{url}: {describe(error)}; {remedy}") from error
            problem = describe(error)
        except BREAKS as error:
            problem = describe(error)
        size = partial.stat().st_size if partial.exists() else 0
        failures = 0 if size > most else failures + 1
        most = max(most, size)
        if failures == ATTEMPTS:
            raise BadInput(f"{url}: {problem}, {ATTEMPTS} times in a row; {remedy}")
        logging.warning("%s: %s; going on", url, problem)
        time.sleep(PAUSE * failures)
    tag_of(partial).unlink(missing_ok=True)
    found = digest_of(path)
    if sha256 and found != sha256.lower():
        path.unlink()
        raise BadInput(f"{url} has the SHA-256 {found} and not {sha256}: removed; {remedy}")
    return found


def download_rest(url: str, partial: Path) -> bool:
    """Appends to `partial` what it lacks, as far as the connection lasts; whether it is whole then.

    A file that changed on the server meanwhile, which its ETag tells, begins anew; so does one without an ETag.
    """
    tag = tag_of(partial)
    have = partial.stat().st_size if partial.exists() and tag.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": tag.read_text()} if have else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        tag.unlink(missing_ok=True)  # where it is not whole, the next attempt begins anew
        return error.headers["Content-Range"] == f"bytes */{have}"
    with response:
        rest = (response.headers["Content-Range"] or "").startswith(f"bytes {have}-")
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0
            partial.unlink(missing_ok=True)  # first, so that no other file's beginning is ever under this tag
            tag.unlink(missing_ok=True)
            if response.headers["ETag"]:
                tag.write_text(response.headers["ETag"])
        elif not rest:
            tag.unlink()
            return False
        length = response.headers["Content-Length"]
        total = have + int(length) if length else None
        with (
            partial.open("ab" if have else "wb", buffering=0) as file,
            tqdm(total=total, initial=have, desc="downloading", unit="B", unit_scale=True) as progress,
        ):
            while chunk := response.read1(CHUNK):
                with named(partial):
                    file.write(chunk)
                progress.update(len(chunk))
    size = partial.stat().st_size
    return size > 0 and (total is None or size == total)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with named(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tag_of(partial: Path) -> Path:
    """Where the ETag of a partial file is kept."""
    return partial.with_name(f"{partial.name}.etag")
