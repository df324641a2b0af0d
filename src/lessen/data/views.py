"""Random views of training images: crops and flips that (view, id) alone decide, so that they can be replayed."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PAD_FRAC = 1 / 8  # of a side, added around the image before cropping: 4 of 32 pixels


def view_of(pixels: Array, view: int, sample: str, augment: str) -> Array:
    """Return one view of an image.

    The offsets are fractions that (view, sample) decide: a teacher and a student that read images of different sizes
    see the same part of the image.

    Args:
        pixels: uint8 [size, size, channels].
        view: seed of the view.
        sample: the sample's id.
        augment: none, crop (reflect-padded by an eighth of a side), or crop_flip (and mirrored half the time).
    """
    if augment == "none":
        return pixels
    raw = hashlib.sha256(f"{view}:{sample}".encode()).digest()
    down, right = (int.from_bytes(raw[i : i + 8], "big") / 2**64 for i in (0, 8))
    size = pixels.shape[0]
    pad = min(max(1, round(size * PAD_FRAC)), size - 1)
    padded = np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    top, left = int(down * (2 * pad + 1)), int(right * (2 * pad + 1))
    cropped = padded[top : top + size, left : left + size]
    flip = augment == "crop_flip" and raw[16] % 2
    return np.ascontiguousarray(cropped[:, ::-1] if flip else cropped)
