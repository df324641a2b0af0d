"""Images as a sequence that is decoded when asked for: uint8 RGB [height, width, 3]. Imports no torch."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from lessen.errors import DataError

Array = np.ndarray[Any, Any]
Raw = bytes | Path | Array  # an image file's content, an image file, or pixels

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})


class Images(Sequence[Array]):
    """Images that are kept as files or bytes and decoded on access."""

    def __init__(self, raw: Sequence[Raw], places: Sequence[str]) -> None:
        """Take images and, for messages, where each comes from."""
        self.raw, self.places = list(raw), list(places)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.raw)

    @overload
    def __getitem__(self, at: int) -> Array: ...
    @overload
    def __getitem__(self, at: slice) -> Images: ...
    def __getitem__(self, at: int | slice) -> Array | Images:
        """Decode one image, or return a part of the sequence undecoded."""
        if isinstance(at, slice):
            return Images(self.raw[at], self.places[at])
        return decode(self.raw[at], self.places[at])

    def __iter__(self) -> Iterator[Array]:
        """Decode one image after the other."""
        return (self[i] for i in range(len(self)))

    def take(self, rows: Sequence[int]) -> Images:
        """Return these images, undecoded."""
        return Images([self.raw[i] for i in rows], [self.places[i] for i in rows])


def decode(raw: Any, place: str) -> Array:
    """Return uint8 RGB pixels [height, width, 3].

    Args:
        raw: the bytes or the path of an image file, or uint8 pixels [height, width, 3 or 1].
        place: where it comes from, for messages.

    Raises:
        DataError: it is no image, is damaged, or has more than 8 bits a channel.
    """
    if isinstance(raw, np.ndarray):
        return _pixels(raw, place)
    if not isinstance(raw, bytes | str | Path):
        raise DataError(
            f"{place} is {type(raw).__name__}, not an image", "give PNG or JPEG files, their bytes, or pixels"
        )
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as image:
            if image.mode not in EIGHT_BIT:
                raise DataError(
                    f"{place} has pixels of mode {image.mode}, more than 8 bits a channel", "convert it to 8 bits first"
                )
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB"), dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(
            f"{place}: there is no file {raw!s}", "image paths count from the folder of the table"
        ) from None
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, EOFError, Image.DecompressionBombError) as error:
        reason = "it is no image that Pillow knows" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{place} is a broken image: {reason}", "remove or replace it") from None


def content(raw: Raw) -> bytes:
    """Return what an image's identity is taken from: the bytes of its file, or its shape and pixels."""
    if isinstance(raw, np.ndarray):
        return repr(raw.shape).encode() + raw.tobytes()
    return raw if isinstance(raw, bytes) else raw.read_bytes()


def image_digest(raw: Raw) -> str:
    """Return the SHA-256 of an image's content."""
    return hashlib.sha256(content(raw)).hexdigest()


def _pixels(pixels: Array, place: str) -> Array:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise DataError(
            f"{place} has shape {list(pixels.shape)} of {pixels.dtype}", "pixels are uint8 [height, width, 3]"
        )
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
