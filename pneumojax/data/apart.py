"""Compressed DICOMs are decompressed in processes of their own: GDCM ends its own where a file is damaged.

A process is started where none is idle, so that there are as many as threads that ask, and ends when it is not asked.
"""

import contextlib
import json
import os
import select
import subprocess
import sys

import numpy as np

from pneumojax.data.picture import Passing
from pneumojax.data.stored import header_of, samples_of
from pneumojax.errors import describe

IDLE = 60  # seconds after which a process ends
idle: list[subprocess.Popen] = []
os.register_at_fork(after_in_child=idle.clear)  # their pipes are the parent's


def samples_in(content: bytes, syntax: str) -> np.ndarray:
    """`stored.samples_of` a DICOM file; `syntax` names its compression.

    Errors: Passing where it cannot be decompressed, since another library may do it.
    """
    for _ in range(2):  # the first may just have ended, being idle
        process = taken()
        try:
            process.stdin.write(len(content).to_bytes(8) + content)
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
            samples = process.stdout.read(told["bytes"])
        except (OSError, ValueError):  # it has ended
            process.kill()
            process.communicate()
            continue
        idle.append(process)
        if told["why"]:
            raise Passing(f"{syntax} that cannot be decoded here ({told['why']}): convert it, or fetch it again")
        return np.frombuffer(samples, told["dtype"]).reshape(told["shape"])
    raise Passing(f"{syntax} of which the decoder itself ends: fetch it again, or convert it")


def taken() -> subprocess.Popen:
    """An idle process that lives, or a new one."""
    while idle:
        with contextlib.suppress(IndexError):  # another thread took the last
            process = idle.pop()
            if process.poll() is None:
                return process
    return start()


def start() -> subprocess.Popen:
    """A process that answers; Ctrl-C does not reach it, and what its libraries print is dropped."""
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "pneumojax.data.apart"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
    except OSError as error:
        raise Passing(f"no process to decompress it can be started ({describe(error)}): free memory") from error


def main() -> None:
    """Answers: eight bytes of length and a DICOM file → a line of JSON and the samples."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print
    while select.select([0], [], [], IDLE)[0] and (size := requests.read(8)):
        samples, why = np.zeros(0), ""
        try:
            samples = samples_of(header_of(requests.read(int.from_bytes(size))))
        except Exception as error:  # decoders raise anything for damaged files
            why = describe(error)
        told = {"why": why, "bytes": samples.nbytes, "dtype": samples.dtype.str, "shape": samples.shape}
        answers.write(json.dumps(told).encode() + b"\n" + samples.tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
