"""TensorBoard's events: what is in them, and that a full disk is an error and no end of all."""

import errno

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from pneumojax.board import Board


def events(folder) -> list[Event]:
    """The events of a file: records of length, its checksum, an event, its checksum."""
    [path] = folder.glob("events.out.tfevents.*")
    content, found = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_texts_numbers_and_pictures_stand_in_the_file_in_their_order(tmp_path):
    board = Board(tmp_path)
    board.text("config", "a")
    board.scalar("trial0/loss", 0.25, 7)
    board.flush()
    assert len(events(tmp_path)) == 3  # the first is the version's
    board.image("trial0/drawn", np.zeros((4, 6), np.uint8), 8)
    board.close()
    _, text, number, picture = events(tmp_path)
    assert b"a" in text.summary.value[0].tensor.string_val[0]
    assert (number.step, number.summary.value[0].tag, number.summary.value[0].simple_value) == (7, "trial0/loss", 0.25)
    image = picture.summary.value[0].image
    assert (picture.step, image.height, image.width) == (8, 4, 6)
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_a_disk_that_is_full_is_an_error_however_many_numbers_come(tmp_path, monkeypatch):
    board = Board(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    for number in range(20):
        with pytest.raises(OSError, match="No space left on device"):
            board.scalar("loss", 1.0, number)
