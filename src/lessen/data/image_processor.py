"""Images to pixels: what stands between an image and a model. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lessen.context import digest, write_atomic
from lessen.errors import RecipeError

Array = np.ndarray[Any, Any]

IMAGES = "preprocessor_config.json"
CONVNEXT_WARPS = 384  # from this size on, ConvNextImageProcessor resizes both sides and cuts nothing


@dataclass(frozen=True)
class ImageProcessor:
    """Resize, then (x / 255 - mean) / std.

    Attributes:
        size: pixels a side.
        channels: 3 (RGB) or 1 (grey).
        mean, std: per channel, of pixels scaled to 0..1.
        resample: nearest, bilinear, bicubic or lanczos.
        shorter: none: both sides are resized to `size`; else the shorter side to this, and the centre is cut out.
    """

    size: int
    channels: int = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    shorter: int | None = None
    kind: Literal["image"] = "image"
    input_names: tuple[str, ...] = ("pixel_values",)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise RecipeError(f"an image has {self.channels} channels; allowed are 1 and 3", "see num_channels")
        if self.shorter is not None and self.shorter < self.size:
            raise RecipeError(f"images of {self.shorter} pixels cannot be cut to {self.size}", "raise shorter")
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise RecipeError(
                f"mean {self.mean} and std {self.std} do not fit {self.channels} channels", "give one of each a channel"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the settings."""
        return digest(self._values())

    def encode(self, inputs: Sequence[Any]) -> list[Array]:
        """Return uint8 pixels [size, size, channels].

        Args:
            inputs: uint8 RGB arrays [height, width, 3], or paths or bytes of image files.
        """
        return [self._resized(image) for image in inputs]

    def collate(self, items: Sequence[Array], pad_to: int | None = None) -> dict[str, Array]:
        """Return float32 `pixel_values`, normalised, shape [batch, channels, size, size]."""
        pixels = np.stack(items).astype(np.float32)
        pixels /= np.float32(255)
        pixels -= np.asarray(self.mean, dtype=np.float32)
        pixels /= np.asarray(self.std, dtype=np.float32)
        return {"pixel_values": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json; transformers.AutoImageProcessor reads it too where images are RGB."""
        write_atomic(folder / IMAGES, json.dumps(self._values(), indent=2, sort_keys=True, ensure_ascii=False) + "\n")

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "do_resize": True,
            "resample": _FILTERS.index(self.resample),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "channels": self.channels,
        }
        square = {"height": self.size, "width": self.size}
        if self.shorter is None:
            return {"image_processor_type": "ViTImageProcessor", "size": square, **values}
        cut = {"size": {"shortest_edge": self.shorter}, "do_center_crop": True, "crop_size": square}
        return {"image_processor_type": "MobileNetV2ImageProcessor", **cut, **values}

    def _resized(self, raw: Any) -> Array:
        from PIL import Image

        from lessen.data.images import decode

        pixels = decode(raw, "an image")
        image = Image.fromarray(pixels)
        if self.channels == 1:
            image = image.convert("L")
        how = getattr(Image.Resampling, self.resample.upper())
        if self.shorter is None:
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), how)
        else:
            image = _centre(image, self.size, self.shorter, how)
        return np.asarray(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)


_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic")  # the index is Pillow's number


def load_image(values: dict[str, Any]) -> ImageProcessor:
    """Read an image processor's configuration, ours or one of transformers.

    Raises:
        ValueError, KeyError, TypeError: it is of another form.
    """
    size, shorter = _sizes(values)
    channels = int(values.get("channels", len(values.get("image_mean", (0,) * 3))))
    mean = tuple(float(x) for x in values.get("image_mean", (0.5,) * channels))
    std = tuple(float(x) for x in values.get("image_std", (0.5,) * channels))
    if not values.get("do_normalize", True):
        mean, std = (0.0,) * channels, (1.0,) * channels
    if not values.get("do_rescale", True) or not math.isclose(values.get("rescale_factor", 1 / 255), 1 / 255):
        raise ValueError("pixels must be scaled by 1/255")
    resample: Any = _FILTERS[int(values.get("resample", 2))]
    return ImageProcessor(size, channels, mean, std, resample, shorter)


def _sizes(values: dict[str, Any]) -> tuple[int, int | None]:
    """Return the side of the square, and the shorter side before cutting where there is a cut."""
    size = values["size"]
    if isinstance(size, dict) and "shortest_edge" in size:
        edge, cut = int(size["shortest_edge"]), values.get("crop_size")
        if values.get("do_center_crop") and cut:
            return int(cut["height"] if isinstance(cut, dict) else cut), edge
        fraction = float(values.get("crop_pct") or 1.0)
        return edge, None if edge >= CONVNEXT_WARPS else int(edge / fraction + 1e-6)
    height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
    if height != width:
        raise ValueError(f"images of {height} x {width} are not square")
    return int(height), None


def _centre(image: Any, size: int, edge: int, how: Any) -> Any:
    """Resize the shorter side to `edge` and cut the centre out."""
    width, height = image.size
    short = min(width, height)
    image = image.resize((int(width * edge / short), int(height * edge / short)), how)
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return image.crop((left, top, left + size, top + size))
