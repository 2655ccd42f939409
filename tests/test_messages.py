"""What processes of a run tell each other."""

import json
import pickle

import numpy as np
import pytest

from pneumojax.messages import packed, unpacked


def test_values_come_back():
    value = {"step": 3, "none": None, "arrays": [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(0, np.uint8)]}
    value |= {
        "record": {"place": "trial0/clean/é", "window": {"loss": [0.1, 1e300]}},
        "scalar": np.float32(0.1),
        7: True,
    }
    found = unpacked(packed(value))
    assert found.keys() == value.keys()
    np.testing.assert_array_equal(found["arrays"][0], value["arrays"][0])
    assert (found["arrays"][0].dtype, found["arrays"][1].shape) == (np.float32, (0,))
    assert found["record"] == value["record"]
    assert (found["step"], found["none"], found["scalar"], found[7]) == (3, None, np.float32(0.1), True)
    assert unpacked(packed((1, "two"))) == [1, "two"]


def test_what_is_none_of_these_is_refused_and_nothing_is_unpickled():
    with pytest.raises(TypeError):
        packed({"path": object()})
    with pytest.raises(ValueError, match="allow_pickle"):
        unpacked(packed(np.array([{}], object)))
    with pytest.raises((ValueError, json.JSONDecodeError)):
        unpacked(pickle.dumps([1, 2]))
