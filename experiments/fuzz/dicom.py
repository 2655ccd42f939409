"""Small sets of DICOM files whose headers are legal and odd, against `dicom_gray`."""

import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import uid

from experiments.fuzz import Outcome, dicom_files, judge
from experiments.fuzz.dicom_gray import Mono, Table, grays, values
from experiments.fuzz.judge import Expected

THEMES = (  # what a case is mostly about; the rest is drawn as well, less often
    *("plain", "bits", "signed", "rescale", "empty elements", "modality LUT", "VOI LUT", "window", "padding"),
    *("MONOCHROME1", "colour", "syntax", "patient", "no picture", "refused", "odd file"),
)
WINDOWS = ("as viewer", "first window", "percentile")
NO_PICTURE = {
    uid.BasicTextSRStorage: "Basic Text SR",
    uid.RTPlanStorage: "RT Plan",
    uid.TwelveLeadECGWaveformStorage: "12-lead ECG",
    uid.EncapsulatedPDFStorage: "Encapsulated PDF",
    uid.GrayscaleSoftcopyPresentationStateStorage: "Grayscale Softcopy Presentation",
    uid.KeyObjectSelectionDocumentStorage: "Key Object Selection",
    uid.RTStructureSetStorage: "RT Structure Set",
    uid.DigitalXRayImageStorageForPresentation: "Digital X-Ray",
    uid.MediaStorageDirectoryStorage: "Media Storage Directory",
    "1.2.826.0.1.3680043.8.498.1": "",  # a private one
}
PATIENTS = ("4711", "A^B^^", "Ünsöld 77", "\N{SNOWMAN}-1234", "x" * 64, "IM-0001", "person12_bacteria_7", "0000")


def case(rng: np.random.Generator, folder: Path) -> Outcome:
    """One set of 1 to 4 pictures, all with the same odd theme."""
    theme = str(rng.choice(THEMES))
    mode = str(rng.choice(WINDOWS, p=[0.7, 0.15, 0.15]))
    root = folder / "set"
    (root / "NORMAL").mkdir(parents=True)
    common = {"bits": int(rng.choice([6, 8, 10, 12, 14, 16, 16, 16])), "signed": likely(rng, theme == "signed", 0.15)}
    kind = f"dicom: {theme}"
    pictures: dict[str, Mono] = {}
    expected: dict[str, Expected] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of what is odd
        for number in range(rng.integers(1, 5)):
            name = f"NORMAL/{number}.{rng.choice(['dcm', 'DCM', 'dicom'], p=[0.8, 0.1, 0.1])}"
            other = {"no picture": no_picture, "refused": refused, "colour": colour}.get(theme)
            if other and rng.random() < 0.7:
                expected[name] = other(rng, root / name, mode)
            else:
                pictures[name], expected[name] = monochrome(rng, root / name, theme, common)
        for name, variants in shown(pictures, expected, mode).items():
            expected[name] = expected[name]._replace(grays=variants)
        result, detail, _ = judge.judged(root, expected, **({} if mode == "as viewer" else {"window": mode}))
    return Outcome(kind, result, detail and f"{mode}: {detail}; {told(pictures, expected)}")


def shown(pictures: dict[str, Mono], expected: dict[str, Expected], mode: str) -> dict[str, tuple[np.ndarray, ...]]:
    """The grays of a set; where some are refused, also those without these, since both are right."""

    def of(some: dict[str, Mono]) -> dict[str, np.ndarray]:
        return dict(zip(some, grays(list(some.values()), mode), strict=True))

    whole = of(pictures)
    readable = of({name: one for name, one in pictures.items() if not expected[name].why})
    variants = [whole, readable]
    for found in (whole, readable):
        variants.append(of({name: pictures[name] for name in readable if np.ptp(found[name]) > 1}))
    return {name: tuple(found[name] for found in variants if name in found) for name in pictures}


def told(pictures: dict[str, Mono], expected: dict[str, Expected]) -> str:
    """What was made, in short."""

    def short(value):
        if isinstance(value, Table):
            top = value.entries.max()
            return f"{len(value.entries)} entries from {value.first}, {value.bits} bits, {value.form}, to {top}"
        return value

    lines = []
    for name, one in pictures.items():
        fields = one._replace(stored=f"{one.stored.shape}, {one.stored.min()}…{one.stored.max()}")._asdict()
        fields = {field: short(value) for field, value in fields.items() if value not in (None, ())}
        lines.append(f"{name}: {expected[name].how}, {fields}")
    return " | ".join(lines)


def likely(rng: np.random.Generator, mostly: bool, otherwise: float) -> bool:
    """True mostly, or as often as said."""
    return bool(rng.random() < (0.8 if mostly else otherwise))


def monochrome(rng, path: Path, theme: str, common: dict) -> tuple[Mono, Expected]:
    """Draws and writes one grayscale picture."""
    bits, signed = common["bits"], common["signed"]
    if likely(rng, False, 0.3):
        bits, signed = int(rng.integers(6, 17)), likely(rng, False, 0.3)
    allocated = 8 if bits <= 8 and rng.random() < 0.7 else 16
    one = drawn(rng, theme, bits, signed)
    syntaxes = dicom_files.SYNTAXES if likely(rng, theme == "syntax", 0.1) else ("explicit", "implicit")
    syntax = str(rng.choice(syntaxes))
    if syntax == "JPEG2000Lossless" and min(one.stored.shape) < 32:
        syntax = "JPEGLSLossless"  # GDCM has five halvings, whatever the sides
    syntax = "RLE" if bits < 8 and syntax in dicom_files.BY_GDCM else syntax  # GDCM would end the process
    syntax = "explicit" if bits <= 8 < allocated and syntax == "RLE" else syntax  # pydicom would write one byte of two
    odd_bits = likely(rng, theme == "bits", 0.2) and syntax not in dicom_files.BY_GDCM
    high_bit = int(rng.choice([bits - 1, allocated - 1, rng.integers(bits - 1, allocated)])) if odd_bits else bits - 1
    # an overlay in the bits that the values leave; or the sign, which many writers extend
    junk = rng.integers(0, 1 << allocated, one.stored.shape) if odd_bits and rng.random() < 0.7 else one.stored
    junk = junk if high_bit == bits - 1 or odd_bits else np.zeros_like(one.stored)
    if syntax in dicom_files.BY_GDCM:
        junk = one.stored if signed else np.zeros_like(one.stored)
    made = dicom_files.grayscale(
        one, dicom_files.words(one.stored, bits, high_bit, allocated, junk), allocated, high_bit, syntax
    )
    if syntax == "RLE":
        made.compress(uid.RLELossless, encoding_plugin="pydicom")  # GDCM's may end the process
    patient = str(rng.choice(PATIENTS)) if likely(rng, theme == "patient", 0.1) else ""
    if patient:
        made.SpecificCharacterSet = "ISO_IR 192"
        made.PatientID = patient + str(rng.choice(["", " "]))
    elif rng.random() < 0.5:
        made.PatientID = str(rng.choice(["", " "]))
    if likely(rng, theme == "empty elements", 0.1):
        empty_elements(rng, made, syntax)
    preamble = not (theme == "odd file" and rng.random() < 0.5)
    preamble = preamble or syntax in ("deflated", *dicom_files.BY_GDCM)  # which writes one
    dicom_files.write(made, path, syntax, preamble)
    how = f"{syntax}, {bits} of {allocated} bits below {high_bit + 1}{', junk' if junk is not one.stored else ''}"
    why = "" if preamble else "convert it|fetch it again"
    return one, Expected(why=why, patient=patient, how=how)


def drawn(rng, theme: str, bits: int, signed: bool) -> Mono:
    """Draws one picture's values and header."""
    used = int(rng.integers(min(6, bits), bits + 1))
    low, high = (-(2 ** (used - 1)), 2 ** (used - 1) - 1) if signed else (0, 2**used - 1)
    shape = (judge.SIDE, judge.SIDE) if rng.random() < 0.5 else tuple(rng.integers(2, 41, 2))
    stored = rng.integers(low, high + 1, shape)
    if rng.random() < 0.5:
        stored = np.linspace(low, high, stored.size).round().astype(np.int64).reshape(shape)[:: rng.choice([-1, 1])]
    if likely(rng, False, 0.03):
        stored = np.full(shape, rng.integers(0, 30))
    one = Mono(stored, bits, signed, likely(rng, theme == "MONOCHROME1", 0.2))
    alike = np.ptp(stored) == 0  # nothing of it may count for the set
    whole = likely(rng, theme == "VOI LUT", 0.1) and not alike
    if likely(rng, theme == "modality LUT", 0.05) and not alike:
        one = one._replace(modality=table(rng, stored, bits))
    elif likely(rng, theme == "rescale", 0.2):
        slopes = (None, "", "1", "-1", "2", "-3.0") if whole else (None, "", "1", "-1", "0.5", "-0.25", "1.7e0", "1E-4")
        intercepts = (None, "", "0", "-1024", "4095", "-32768") + (() if whole else ("0.5", "-1e3", "+12.25"))
        one = one._replace(slope=draw(rng, slopes), intercept=draw(rng, intercepts))
    if whole:
        one = one._replace(voi=table(rng, values(one).astype(np.int64), 16))
    if likely(rng, theme == "window", 0.2):
        one = with_window(rng, one)
    if likely(rng, theme == "padding", 0.1):
        padding = int(np.sort(stored, axis=None)[stored.size // 2])
        one = one._replace(padding=(padding, min(padding + 3, int(stored.max())))[: rng.integers(1, 3)])
        outside = stored[(stored < min(one.padding)) | (stored > max(one.padding))]
        one = one if np.unique(outside).size > 9 else one._replace(padding=())
    return one


def draw(rng, options: tuple):
    """One of them, None included."""
    return options[rng.integers(len(options))]


def table(rng, x: np.ndarray, bits: int) -> Table:
    """A LUT for about the range of `x`, rising or falling or neither; its data may need fewer bits than it claims."""
    count = int(rng.choice([2, 200, 256, 300, 4096, 65536, max(2, min(np.ptp(x) + 1, 65536))]))
    least = int(x.min()) if rng.random() < 0.5 else int(x.min() + rng.integers(-20, 20))
    least = int(np.clip(least, -32768, 32767)) if x.min() < 0 else int(np.clip(least, 0, 65535))
    claimed = int(rng.choice([8, 10, 12, 14, 16]))
    top = 2 ** (claimed if rng.random() < 0.5 else int(rng.integers(8, claimed + 1))) - 1
    shape = rng.integers(3)
    entries = np.linspace(0, top, count).round().astype(np.int64)
    entries = entries[::-1] if shape == 0 else entries
    entries = rng.permutation(entries) if shape == 1 and count < 1000 else entries
    forms = ("OB", "OW") if claimed == 8 else ("OW",)
    forms += ("US",) if count < 32000 else ()
    return Table(entries, least, claimed, str(rng.choice(forms)))


def with_window(rng, one: Mono) -> Mono:
    """Draws windows about the values of a picture, or what stands for none."""
    x = values(one)
    centers = [f"{rng.uniform(x.min(), x.max()):.6g}" for _ in range(3)]
    widths = [f"{max(np.ptp(x), 4) * rng.uniform(0.1, 1.5):.6g}" for _ in range(3)]
    odd = rng.random()
    if odd < 0.3:
        widths[0] = str(rng.choice(["0", "-5", "1", "1", "0.5", "0.0", "1.5"]))
    number = int(rng.choice([1, 1, 2, 3]))
    center, width = "\\".join(centers[:number]), "\\".join(widths[: 1 if odd > 0.95 else number])
    if 0.3 < odd < 0.4:
        center, width = draw(rng, (("", ""), (center, ""), ("", width), (None, width), (center, None)))
    return one._replace(
        center=center, width=width, function=draw(rng, (None, None, "", "LINEAR", "LINEAR_EXACT", "SIGMOID"))
    )


def empty_elements(rng, made, syntax: str) -> None:
    """Adds elements that are present and empty, as de-identified files have them."""
    for name in ("RescaleSlope", "RescaleIntercept", "VOILUTFunction", "NumberOfFrames", "WindowWidth", "WindowCenter"):
        if name not in made and rng.random() < 0.7 and not (name == "NumberOfFrames" and syntax in dicom_files.BY_GDCM):
            setattr(made, name, "")
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        if name not in made and rng.random() < 0.7:
            made.add_new(name, "SQ", [])
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue"):
        if name not in made and rng.random() < 0.7:
            made.add_new(name, "US", None)


def no_picture(rng, path: Path, _: str) -> Expected:
    """Writes a DICOM without a picture."""
    sop_class = draw(rng, tuple(NO_PICTURE))
    made = dicom_files.header(sop_class)
    if rng.random() < 0.3:
        made.PatientID = "4711"
    if sop_class == uid.DigitalXRayImageStorageForPresentation:
        made.Rows, made.Columns = 30, 40  # whose pixels somebody took away
    dicom_files.write(made, path)
    return Expected(why=rf"(?i)DICOM without a picture.*{re.escape(NO_PICTURE[sop_class])}.*leave it out")


def refused(rng, path: Path, mode: str) -> Expected:
    """Writes a picture that a rule refuses, or that may be."""
    kind = draw(rng, ("slope", "frames", "palette", "32 bits", "one pixel", "6 bits of JPEG"))
    shape = (1, 1) if kind == "one pixel" else (9, 8)
    stored = rng.permutation(np.arange(shape[0] * shape[1])).reshape(shape)
    one = Mono(stored, 8, False, False, slope="0" if kind == "slope" else None, intercept=draw(rng, (None, "5")))
    if kind == "6 bits of JPEG":  # of which GDCM ends the process
        one = one._replace(stored=stored % 64, bits=6, slope=None, intercept=None)
        made = dicom_files.grayscale(one, one.stored, 8, 5, "explicit")
        dicom_files.write(made, path, "JPEGLosslessProcess14_1", check=False)
        return Expected((grays([one], mode)[0],), why="convert it")
    if kind == "32 bits":
        made = dicom_files.header()
        dicom_files.with_samples(made, stored, 32, 32, 31, False)
        made.PhotometricInterpretation = "MONOCHROME2"
        dicom_files.write(made, path)
        return Expected((grays([one._replace(bits=32)], mode)[0],), why="bits|BitsAllocated|convert it")
    made = dicom_files.grayscale(one, stored, 8, 7, "explicit")
    why = {"slope": "RescaleSlope", "frames": "frames", "palette": "PALETTE", "one pixel": "alike"}[kind]
    if kind == "frames":
        made.NumberOfFrames = 2
        made.PixelData = made.PixelData * 2
    if kind == "palette":
        made.PhotometricInterpretation = "PALETTE COLOR"
        for name in ("Red", "Green", "Blue"):
            made.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 8])
            made.add_new(f"{name}PaletteColorLookupTableData", "OW", bytes(range(256)))
    dicom_files.write(made, path)
    return Expected(why=why)


def colour(rng, path: Path, _: str) -> Expected:
    """Writes a picture in colour, by pixel or by plane, plain, RLE or JPEG."""
    shape = (judge.SIDE, judge.SIDE) if rng.random() < 0.5 else tuple(rng.integers(2, 41, 2))
    smooth = rng.integers(0, 256, (4, 4, 3), np.uint8)
    rgb = np.asarray(Image.fromarray(smooth).resize(shape[::-1], Image.Resampling.BICUBIC))
    space = draw(rng, ("RGB", "YBR_FULL"))
    stored = rgb if space == "RGB" else np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    syntax = draw(rng, ("explicit", "implicit", "big endian", "deflated", "RLE", "JPEG"))
    made = dicom_files.header(syntax=syntax)
    planar = draw(rng, (0, 1))
    samples = stored.transpose(2, 0, 1).reshape(shape[0], shape[1], 3) if planar and syntax != "RLE" else stored
    dicom_files.with_samples(made, samples, 8, 8, 7, False)
    made.PlanarConfiguration = int(planar and syntax != "RLE")
    made.PhotometricInterpretation = space
    gray = np.asarray(Image.fromarray(rgb).convert("L"))
    if syntax == "JPEG":
        made.PhotometricInterpretation, made.PlanarConfiguration = "YBR_FULL_422", 0
        gray = dicom_files.with_jpeg(made, Image.fromarray(rgb), int(rng.integers(60, 100)))
    if syntax == "RLE":
        made.compress(uid.RLELossless, encoding_plugin="pydicom")  # GDCM's may end the process
    dicom_files.write(made, path, syntax)
    most = 1 if space == "RGB" and syntax != "JPEG" else 2
    return Expected((gray.astype(float),), most=most, how=f"{syntax}, {space}, planar {planar}")
