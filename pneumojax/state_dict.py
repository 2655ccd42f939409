"""Of whatever a file of weights holds, the tensors of one network under torchvision's names.

Programs that train wrap both what they save and its names. Three rules take that off, and what was taken off is said:

- of all dicts in the file, at most `DEEPEST` containers deep, the one counts that holds tensors of the network; two of
  them are an error which names both;
- words that PyTorch puts into names where it wraps a module (`WRAPPERS`) are left out wherever they stand;
- of prefixes that end in a dot the one with the most names of the network behind it is left out, where every name
  begins with it.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from pneumojax.errors import BadInput
from pneumojax.weights import is_tensor, shown

DEEPEST = 8
WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")  # in published files norm.1, today norm1
COUNTERS = re.compile(r"(.*\.)?num_batches_tracked|n_averaged")  # of batch norm; of torch.optim.swa_utils
AUXILIARY = re.compile(r"(aux\d|AuxLogits)\..*")  # heads of GoogLeNet and Inception, of use in training only


class Found(NamedTuple):
    """Tensors of a network, and how they lay in the file."""

    tensors: dict  # by torchvision's names
    said: str  # where they were found and what their names lost, each with a comma before; '' for a plain state dict


def passed_over(name: str) -> bool:
    """Whether a tensor that is not the network's is none that it lacks either."""
    return bool(COUNTERS.fullmatch(name) or AUXILIARY.fullmatch(name))


def of_network(held, known: Collection[str], what: str) -> Found:
    """The tensors of a network in what a file holds.

    Args:
      held: of `weights.read`.
      known: torchvision's names of the network's tensors.
      what: the network, for messages.

    Errors: BadInput where there are no tensors by name, or it is not clear which are the network's. Tensors of another
    network alone are no error here.
    """
    dicts = list(dicts_of_tensors(held))
    if not dicts:
        raise BadInput(f"it holds {described(held)} and not tensors by name; save the network's state_dict() alone")
    fitting = [(place, one) for place, one in dicts if prefixes(bare_names(one, known).values(), known)]
    if len(fitting) > 1:
        places = " and ".join(f"below {place!r}" if place else "at its top" for place, _ in fitting)
        raise BadInput(f"it holds tensors of {what} more than once, {places}; give a file of one of them alone")
    place, found = fitting[0] if fitting else max(dicts, key=lambda one: len(one[1]))
    for key, value in found.items():
        if not (isinstance(key, str) and is_tensor(value)):
            beside = f"{described(value)} under {shown(key)}" if isinstance(key, str) else f"the key {shown(key)}"
            raise BadInput(f"it holds {beside} beside tensors by name; save the network's state_dict() alone")
    names, left_out = names_of(found, known, what)
    below = f", those below {place!r}" if place else ""
    less = f", without {' and '.join(map(repr, left_out))} in their names" if left_out else ""
    return Found({name: found[key] for key, name in names.items()}, below + less)


def dicts_of_tensors(held) -> Iterator[tuple[str, dict]]:
    """All dicts with a tensor among their values, with the keys that lead to each, as 'checkpoint/model'."""
    seen, waiting = set(), [((), held)]
    for keys, one in waiting:  # grows meanwhile
        if not isinstance(one, dict | list | tuple) or id(one) in seen or len(keys) > DEEPEST:
            continue
        seen.add(id(one))
        items = list(one.items() if isinstance(one, dict) else enumerate(one))
        if isinstance(one, dict) and any(is_tensor(value) for _, value in items):
            yield "/".join(keys), one
        waiting += [((*keys, shown(key)), value) for key, value in items]


def described(value) -> str:
    """What something is, for one line of a message."""
    if not isinstance(value, dict):
        return f"a value of type {type(value).__name__}"
    return "a dict of " + (", ".join(map(shown, list(value)[:5])) or "nothing")


def bare_names(tensors: dict, known: Collection[str]) -> dict[str, str]:
    """The keys that are texts → the same without the words of wrappers, a dense layer's old names as the new ones."""
    texts = [key for key in tensors if isinstance(key, str)]
    return {key: key if key in known else OLD_DENSE.sub(r"\1", WRAPPERS.sub("", key)) for key in texts}


def prefixes(names: Collection[str], known: Collection[str]) -> list[str]:
    """What stands before names of the network: '', or a text that ends in a dot; before the most of them first.

    Only what stands before every name, counters aside, or before half of the names in the file or in the network.
    """
    counted = [name for name in names if not COUNTERS.fullmatch(name)]
    starts = ((name, match.start()) for name in counted for match in re.finditer(r"(?<![^.])", name))
    before = Counter(name[:start] for name, start in starts if name[start:] in known)
    whole = {p for p in before if all(name.startswith(p) for name in counted)}
    half = min(len(counted), len(known)) / 2
    return sorted((p for p in before if p in whole or before[p] >= half), key=lambda p: (-before[p], len(p)))


def names_of(tensors: dict, known: Collection[str], what: str) -> tuple[dict[str, str], list[str]]:
    """Torchvision's name for each key, and what was left out of the keys.

    Errors: BadInput where a prefix stands before some of them only, or two keys become one name.
    """
    bare = bare_names(tensors, known)
    prefix = next(iter(prefixes(bare.values(), known)), "")
    others = [key for key, name in bare.items() if not (name.startswith(prefix) or COUNTERS.fullmatch(name))]
    if others:
        raise BadInput(
            f"the tensors of {what} have the prefix {prefix!r}, {len(others)} others have not, as {shown(others[0])}; "
            "give a file of those with the prefix alone"
        )
    names = {key: name.removeprefix(prefix) for key, name in bare.items()}
    for name, count in Counter(names.values()).items():
        if count > 1:
            both = " and ".join(shown(key) for key in names if names[key] == name)
            raise BadInput(f"{both} are both the network's {shown(name)}; keep one of them")
    wrappers = {f"{word}." for key, name in bare.items() if name != key for word in WRAPPERS.findall(key)}
    return names, sorted(wrappers) + [prefix] * bool(prefix)
