"""Procedural chest-like pictures, so that everything runs without data. They are no X-rays and prove nothing of them.

A torso with two lung fields, spine, ribs, heart and diaphragm; the second class adds few large, soft opacities inside
the lungs, each further one more and smaller ones. Each patient has an anatomy of its own and one to four pictures of
it, so that patients can leak here as they do in life. At every size a picture is the same but for its noise.
"""

import hashlib

import numpy as np

from pneumojax.data import Images, layout

SEED = 2020  # the set is fixed, as a published one is


def load(config, size: int) -> Images:
    """Draws `config.phantom_images` pictures of each class, size x size pixels, always the same ones."""
    rows = []
    for label, (folder, count) in enumerate(zip(config.classes, config.phantom_images, strict=True)):
        prefix = {0: "IM", 1: "person"}.get(label, f"person{label}")
        patient = 0
        while count > 0:
            anatomy = np.random.default_rng([SEED, label, patient])
            pictures = min(int(anatomy.integers(1, 5)), count)
            key = f"{prefix}-phantom{patient:04d}"
            bones = draw_anatomy(anatomy)
            for k in range(pictures):
                noise = np.random.default_rng([SEED, label, patient, k + 1])  # a last 0 would change nothing
                rows.append((f"{folder}/{key}-{k}.png", key, label, draw(bones, label, anatomy, noise, size)))
            count -= pictures
            patient += 1
    rows.sort(key=lambda row: row[0])
    names, patients, labels, pixels = zip(*rows, strict=True)
    return Images(
        pixels=np.stack(pixels),
        labels=np.array(labels, np.int32),
        names=names,
        patients=patients,
        parts=("",) * len(names),
        subtypes=tuple(layout.tell(name, config.classes).subtype for name in names),
        digests=tuple(hashlib.sha256(picture.tobytes()).hexdigest()[:32] for picture in pixels),
    )


def draw_anatomy(rng: np.random.Generator) -> dict[str, float]:
    """What stays the same in all pictures of a patient, in units of the picture's side."""
    return {
        "width": rng.normal(0.17, 0.015),
        "height": rng.normal(0.29, 0.02),
        "gap": rng.normal(0.20, 0.012),
        "ribs": rng.normal(9.0, 0.7),
        "slope": rng.normal(1.6, 0.3),
        "heart": rng.normal(0.13, 0.015),
        "dark": rng.normal(0.42, 0.05),
    }


def draw(
    anatomy: dict[str, float], label: int, rng: np.random.Generator, noise: np.random.Generator, size: int
) -> np.ndarray:
    """One picture, uint8 [size, size]. What is drawn from `rng` is the same at every size; `noise` is its own."""
    shift_x, shift_y, exposure = rng.normal(0, 0.015), rng.normal(0, 0.015), rng.normal(1.0, 0.08)
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = x - np.float32(0.5 + shift_x), y - np.float32(0.5 + shift_y)

    def blob(cx, cy, rx, ry, softness):
        distance = np.sqrt(np.square((x - cx) / rx) + np.square((y - cy) / ry))
        return 1 / (1 + np.exp((distance - 1) / softness))

    torso = blob(0, 0.1, 0.46, 0.62, 0.06)
    lungs = np.maximum(
        *(blob(side * anatomy["gap"], -0.02, anatomy["width"], anatomy["height"], 0.07) for side in (-1, 1))
    )
    heart = blob(0.06, 0.12, anatomy["heart"], anatomy["heart"] * 1.3, 0.12)
    ribs = np.sin(2 * np.pi * anatomy["ribs"] * (y + anatomy["slope"] * x**2)) ** 4
    picture = 0.62 * torso - anatomy["dark"] * lungs * (1 - 0.85 * heart)
    picture += 0.11 * ribs * torso + 0.12 * np.exp(-((x / 0.035) ** 2)) * torso + 0.12 * heart
    if label:
        scale = label**-1.5  # all kinds cover as much
        for _ in range(rng.integers(1, 4) * label**3):
            side = rng.choice((-1, 1))
            opacity = blob(
                side * anatomy["gap"] + rng.normal(0, 0.05),
                rng.normal(0.05, 0.12),
                scale * rng.uniform(0.05, 0.11),
                scale * rng.uniform(0.05, 0.13),
                0.35,
            )
            picture += rng.uniform(0.2, 0.4) * opacity * lungs
    picture = picture * exposure + 0.025 * noise.standard_normal(picture.shape, np.float32)
    return np.clip(np.round(picture * 255), 0, 255).astype(np.uint8)
