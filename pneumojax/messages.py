"""What one process of a run tells the others, as bytes: JSON and arrays, of which nothing is unpickled."""

import io
import json
from typing import Any

import numpy as np


def packed(value: Any) -> bytes:
    """Numbers, texts, None, arrays, and lists, tuples and dicts of them. Errors: TypeError for anything else."""
    arrays: list[np.ndarray] = []

    def plain(one: Any):
        if isinstance(one, np.ndarray | np.generic):
            arrays.append(np.asarray(one))
            return {"array": len(arrays) - 1}
        if isinstance(one, dict):
            return {"items": [[plain(key), plain(own)] for key, own in one.items()]}
        return [plain(own) for own in one] if isinstance(one, list | tuple) else one

    buffer, text = io.BytesIO(), json.dumps(plain(value))
    np.savez(buffer, *arrays, text=np.frombuffer(text.encode(), np.uint8))
    return buffer.getvalue()


def unpacked(content: bytes) -> Any:
    """The inverse of `packed`, but for tuples, which are lists then."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:

        def whole(one: Any):
            if isinstance(one, dict):
                if "array" in one:
                    return arrays[f"arr_{one['array']}"]
                return {whole(key): whole(own) for key, own in one["items"]}
            return [whole(own) for own in one] if isinstance(one, list) else one

        return whole(json.loads(bytes(arrays["text"])))
