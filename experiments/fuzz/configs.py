"""Fields, patterns and flags with odd values: a config is what was meant, in its type and range, or refused by name."""

import ast
import contextlib
import json
import math
import re
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from configs import default
from experiments.fuzz import Outcome, judge
from pneumojax import config
from pneumojax.errors import BadInput

ROOT = Path(__file__).parents[2]
FILES = ("configs/default.py", "configs/demo.py", "configs/resnet18_cpu.py")
LARGEST = 2**31 - 1
ODD = (
    "nan", "inf", "-inf", "-0", "-0.0", "0", "1", "-1", "2", "1e400", "1e-400", "1e308", "5e-324", "0.5", ".5", "1.",
    "1e3", "0.9999999", "1.0000001", "90", "2147483647", "2147483648", "4294967296", "3000000000", "-4294967296",
    "9" * 30, "9" * 400, "9" * 5000, "1_000", "0x10", "007", "+7", " 7 ", "７", "٣", "1,5", "1e", "0b1", "½", "1j",
    "True", "False", "true", "FALSE", "t", "yes", "None", "", " ", "''", '""', "'", "clean", "paper", "clean,paper",
    "x" * 3000, "()", "(1,)", "(0, 1, 2)", "[0, 1]", "(True,)", "(1.0,)", "(1, 1)", "(3000000000,)", "(-1,)", "(nan,)",
    "(1e400,)", "((0,),)", "((((((1,),),),),),)", "{}", "{1, 2}", "({'a': 1},)", "('clean',)", "('clean', 'clean')",
    "('',)", "(None,)", "(12, 20)", "(12,20", "(b'a', 'b')", "('a', 'b')", "(" * 300, "(" * 90 + ")" * 90,
    "-" * 3000 + "1", "1+1", "__import__('os')", "é", "\N{SNOWMAN}", "a\nb", "\0", "\udcff", "~", "${HOME}", "%s", "=",
    "a=b", "--config.seed=1", "skip", "pad", "stream", "adam", "cosine", "float32", "bfloat16", "FLOAT32", "dcgan",
    "dcgan ", "os.path", "percentile", "..", "resnet18",
)  # fmt: skip
CHOICES = {
    "data.on_bad": ("error", "skip"),
    "data.fit": ("stretch", "pad"),
    "data.window": ("as viewer", "first window", "percentile"),
    "data.residence": ("device", "stream"),
    "model.dtype": ("float32", "bfloat16"),
    "classifier.mode": ("full", "head", "last_k"),
    "classifier.optimizer": ("sgd", "adam", "adamw"),
    "classifier.schedule": ("constant", "linear", "cosine"),
    "classifier.feature_dtype": ("float32", "bfloat16"),
    "evaluate.score": ("accuracy", "auc"),
}
FREE = ("data.dir", "data.cache", "gan.cache", "model.cache")  # any text that can be a path
BELOW_ONE = ("gan.beta1", "gan.beta2", "classifier.momentum", "classifier.zoom")
FROM_ZERO = (*BELOW_ONE, "classifier.weight_decay")
OTHERS_TOO = ("data.name", "data.classes", "protocols", "model.name", "model.weights", "gan.name", "system.name")
BOUND = ("data.fraction", "data.subset", "data.phantom_images", "classifier.mode")  # by others
FLAGS = (
    "--config.nothing=1", "--config.=1", "--config=1", "--config.gan=1", "--config.data.dir.x=1", "seed=1", "-x",
    "--seed=1", "--config.Seed=1", "--config.seed.=1", "--config..seed=1", "--config.gan.beta3=0.1", "--config.sead=1",
    "--config.model.widht=8", "--confg.seed=1", "config.seed=1", "--", "--config.trials[0]=1", "--config.data=()",
)  # fmt: skip
PATTERNS = (
    r"(person\d+)", r"person\d+", "", "(", "[", "*", "\\", r"(x)\2", "(?P<n>person)|(IM)", r"(?i)PERSON(\d)", ".*",
    r"(\d*)", "(a)?", "(?<=x)y", "(?<=x*)y", "é", "^", "$", "((((person))))", "a{1,99999999999}", "(?i:im)-",
    "(?x) im", "(" * 150 + "i" + ")" * 150, "(" * 3000 + "i" + ")" * 3000, "i|" * 500, "(?#", "[[:alpha:]]+",
    "(?P<1>a)", "x{2,1}", r"\udcff", r"IM-(\d+)-(\d+)", r"(?=(IM))IM-(\d)", r"\Z", "(?s).", "(?L)a",
)  # fmt: skip
NAMES = ("IM-0001-0001.png", "IM-0001-0002.png", "person1_virus_2.png", "person12_bacteria_3.png", "éa1.png", "7.png")


def case(rng: np.random.Generator, folder: Path) -> Outcome:
    """One command line, or one pattern on a folder."""
    kind = str(rng.choice(["values", "twice", "flags", "patterns"], p=[0.6, 0.15, 0.1, 0.15]))
    result, detail = {"values": values, "twice": twice, "flags": unknown, "patterns": patterns}[kind](rng, folder)
    return Outcome(f"configs: {kind}", result, detail)


def pick(rng, options):
    """One of them."""
    return options[rng.integers(len(options))]


def loaded(arguments: list[str], file: str):
    """The config of a command line, or why there is none."""
    with judge.listening():
        try:
            return config.load(str(ROOT / file), arguments), None
        except BadInput as error:
            return None, str(error)


def values(rng, folder: Path, times: int = 1) -> tuple[str, str]:
    """A field with an odd value; given several times the last one stands."""
    known = config.flat(default.get_config())
    field, file = pick(rng, sorted(known)), pick(rng, FILES)
    texts = [
        pick(rng, CHOICES[field]) if field in CHOICES and rng.random() < 0.3 else pick(rng, ODD) for _ in range(times)
    ]
    arguments = []
    for text in texts:
        arguments += [f"--config.{field}={text}"] if rng.random() < 0.7 else [f"--config.{field}", text]
    made, error = loaded(arguments, file)
    what = f"{file} {[argument[:80] for argument in arguments]}"
    text, kind = texts[-1], type(known[field])
    wanted = meant(text, known[field])
    if error is not None:
        if "\n" in error:
            return "wrong", f"{what}: an error of several lines: {error!r}"
        if f"config.{field}=" not in error and not (field in OTHERS_TOO and "config." in error):
            return "wrong", f"{what}: the error does not name the field: {error[:300]}"
        plain = kind in (int, float) and re.fullmatch(r"-?\d{1,9}(\.\d{1,9})?" if kind is float else r"-?\d{1,9}", text)
        path = field in FREE and 0 < len(text.strip()) < 200 and "\0" not in text
        can_be = path or text in CHOICES.get(field, ()) or (plain and in_range(field, wanted[0], known[field]))
        if can_be and field not in BOUND:
            return "wrong", f"{what}: refused, though it can be: {error[:300]}"
        return "refused", ""
    value = config.flat(made)[field]
    if not any(same(value, one) for one in wanted):
        return "silent", f"{what}: {value!r} is not what was meant: {wanted!r:.200}"
    if not in_range(field, value, known[field]):
        return "silent", f"{what}: {value!r} is not in its range"
    if not same(tuples(json.loads(json.dumps(value, allow_nan=False))), value):
        return "wrong", f"{what}: {value!r} is not read back from JSON"
    return "right", ""


def twice(rng, folder: Path) -> tuple[str, str]:
    """The same, two or three times."""
    return values(rng, folder, int(rng.integers(2, 4)))


def meant(text: str, of) -> list:
    """What a text can mean in the type of a default; none where it is of another type."""
    found = []
    if isinstance(of, bool):
        return [word in ("true", "t", "1") for word in [text.lower()] if word in ("true", "t", "1", "false", "f", "0")]
    if isinstance(of, str):
        return [text]
    for read in (int, lambda text: int(text, 0), float) if isinstance(of, int | float) else ():
        with contextlib.suppress(ValueError, OverflowError):
            number = read(text)
            if isinstance(of, float):
                found.append(float(number))
            elif type(number) is int or (math.isfinite(number) and number == int(number) and abs(number) < 2**53):
                found.append(int(number))
    if isinstance(of, tuple):
        found = [tuple(text.split(",")), (text,)]
        with contextlib.suppress(Exception):
            literal = ast.literal_eval(text)
            found.append(tuple(literal) if isinstance(literal, tuple | list) else (literal,))
    return found


def same(one, other) -> bool:
    """Equal, and of the same types all through."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def tuples(value):
    """Lists, as JSON has them, as tuples."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def in_range(field: str, value, of) -> bool:
    """Whether a field can have this value, by what configs/default.py and the paper say of it."""
    if isinstance(of, tuple):
        return in_tuple(field, value)
    if isinstance(of, str):
        return value in CHOICES.get(field, (value,))
    if isinstance(of, bool):
        return isinstance(value, bool)
    if not (
        abs(value) <= (3.4e38 if type(of) is float else LARGEST) or (field == "seed" and type(value) is int)
    ):  # NaN is not
        return False
    limits = {
        "enlarge": 1 <= value <= 1000,
        "data.test_fraction": 0 < value < 1,
        "data.fraction": 0 < value <= 1,
        "evaluate.margin": 0 < value < 1,
        "data.folds": value >= 2,
        "classifier.warmup": 0 <= value <= 1,
        "classifier.shear": 0 <= value < 90,
    } | {name: 0 <= value < 1 for name in BELOW_ONE}
    return limits.get(field, value >= 0 if of == 0 or field in FROM_ZERO else value > 0)


def in_tuple(field: str, value: tuple) -> bool:
    """The same of several values."""
    whole = all(type(one) is int for one in value)
    if field == "trials":
        return whole and 0 < len(value) == len(set(value)) and min(value) >= 0 and max(value) <= 10_000
    if field in ("data.subset", "data.phantom_images"):
        return whole and len(value) > 0 and min(value) > 0 and max(value) <= LARGEST
    if field == "protocols":
        return 0 < len(value) == len(set(value)) and set(value) <= {"clean", "paper", "official", "patient_kfold"}
    if field == "data.external":
        return all({"name", "dir"} <= set(one) for one in value)
    return all(isinstance(one, str) and one for one in value) and len(set(value)) == len(value)


def unknown(rng, folder: Path) -> tuple[str, str]:
    """A flag that sets no field, among others that do."""
    flag = pick(rng, FLAGS)
    made, error = loaded(["--config.seed=3", flag, "--config.evaluate.margin=0.02"][: rng.integers(2, 4)], FILES[0])
    if error is None:
        return "silent", f"{flag} is taken: seed {made.seed}, margin {made.evaluate.margin}"
    name = flag.removeprefix("--").partition("=")[0]
    return ("refused", "") if name in error and "\n" not in error else ("wrong", f"{flag}: {error}")


def patterns(rng, folder: Path) -> tuple[str, str]:
    """Patients by a pattern, from the names of files: its groups, or all of it, at the start of a name."""
    pattern = pick(rng, PATTERNS)
    try:
        compiled = re.compile(pattern)
    except Exception:
        compiled = None
    _, error = loaded([f"--config.data.patient_pattern={pattern}"], FILES[0])
    root = folder / "set" / "NORMAL"
    root.mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(root / name)
    images, refused, _ = judge.load(root.parent, 8, patient_pattern=pattern)
    if compiled is None:
        refusals = [one and str(one) for one in (error, refused)]
        fine = all(one and "data.patient_pattern=" in one and "\n" not in one for one in refusals)
        return ("refused", "") if fine else ("wrong", f"{pattern[:80]!r} is no pattern: {refusals}")
    if error or refused:
        return "wrong", f"{pattern[:80]!r} can be: {error or refused}"
    wanted = []
    for name in images.names:
        match = compiled.match(PurePosixPath(name).name)
        groups = (match.groups() if compiled.groups else (match.group(),)) if match else ()
        wanted.append("/".join(one for one in groups if one) or name)
    return (
        ("right", "") if list(images.patients) == wanted else ("wrong", f"{pattern!r}: {images.patients}, not {wanted}")
    )
