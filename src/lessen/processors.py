"""Text to token ids, images to pixels: what stands between an input and a model.

A processor is saved in the model's folder and read back from there, so that a model can never be fed through
another's. Texts are read by the `tokenizers` library, images by Pillow. Imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from lessen.context import digest, write_atomic
from lessen.errors import ArtifactError, DataError, ModelError, RecipeError

Array = np.ndarray[Any, Any]

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
IMAGES = "preprocessor_config.json"
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")
CONVNEXT_WARPS = 384  # from this size on, ConvNextImageProcessor resizes both sides and cuts nothing
UNBOUNDED = 10**9  # transformers writes 1e30 where a tokenizer has no length of its own


class Processor(Protocol):
    """What stands between an input and a model."""

    @property
    def kind(self) -> Literal["text", "image"]:
        """What it reads."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of everything that determines `encode`."""
        ...

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the arrays that `collate` returns."""
        ...

    def encode(self, inputs: Sequence[Any]) -> list[Array]:
        """Return one array per input: int32 token ids, or uint8 pixels [size, size, channels]."""
        ...

    def collate(self, items: Sequence[Array], pad_to: int | None = None) -> dict[str, Array]:
        """Return the arrays of a batch that a model takes."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files that `load_processor` reads."""
        ...


class TextProcessor:
    """A tokenizer with a longest length and a padding id."""

    kind: Literal["text"] = "text"
    input_names: tuple[str, ...] = ("input_ids", "attention_mask")

    def __init__(self, tokenizer: Any, config: Mapping[str, Any], max_length: int, pad_id: int) -> None:
        """Take a `tokenizers.Tokenizer`, which is copied.

        Args:
            tokenizer: with the template of its special tokens.
            config: content of tokenizer_config.json; the special tokens by role.
            max_length: tokens a text is cut to, special tokens included; those always survive the cut.
            pad_id: id that fills a batch; the mask is made from lengths, so it may equal another token's.

        Raises:
            RecipeError: `max_length` has no room for a token beside the special ones.
        """
        from tokenizers import Tokenizer

        self.tokenizer: Any = Tokenizer.from_str(tokenizer.to_str())
        special = self.tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise RecipeError(
                f"data.max_length is {max_length}; the tokenizer's special tokens alone take {special}",
                f"give {special + 1} or more",
            )
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)
        self.max_length, self.pad_id = max_length, pad_id
        self.config = {**config, "model_max_length": max_length}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokenizer, the longest length and the padding id."""
        return digest({"tokenizer": self.tokenizer.to_str(), "max_length": self.max_length, "pad_id": self.pad_id})

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return 1 + int(max(self.tokenizer.get_vocab(with_added_tokens=True).values()))

    @property
    def mask_id(self) -> int:
        """The id of the mask token, or of the unknown token where there is none.

        Raises:
            RecipeError: the tokenizer has neither.
        """
        for role in ("mask_token", "unk_token"):
            found = self.tokenizer.token_to_id(str(self.config.get(role)))
            if found is not None:
                return int(found)
        raise RecipeError("token_dropout needs a mask or unknown token, this tokenizer has neither", "set it to 0")

    def encode(self, inputs: Sequence[str]) -> list[Array]:
        """Return int32 token ids with special tokens, cut to `max_length` so that the last special token stays."""
        return [np.asarray(e.ids, dtype=np.int32) for e in self._encoded(inputs)]

    def offsets(self, texts: Sequence[str]) -> list[Array]:
        """Return each token's [start, end) in characters of the text, shape [tokens, 2]; special tokens are empty."""
        return [np.asarray(e.offsets, dtype=np.int64).reshape(-1, 2) for e in self._encoded(texts)]

    def collate(self, items: Sequence[Array], pad_to: int | None = None) -> dict[str, Array]:
        """Return int64 `input_ids` and `attention_mask`, shape [batch, longest or pad_to]."""
        longest = max(len(item) for item in items)
        width = longest if pad_to is None else pad_to
        if width < longest:
            raise DataError(f"pad_to is {pad_to}, an item has {longest} tokens", "pad to the longest or more")
        ids = np.full((len(items), width), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(items), width), dtype=np.int64)
        for row, item in enumerate(items):
            ids[row, : len(item)] = item
            mask[row, : len(item)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; transformers.AutoTokenizer reads them too."""
        write_atomic(folder / TOKENIZER, self.tokenizer.to_str())
        config = {**self.config, "tokenizer_class": "PreTrainedTokenizerFast"}  # others rebuild their own normalizer
        write_atomic(folder / TOKENIZER_CONFIG, _json(config))

    def _encoded(self, texts: Sequence[str]) -> Any:
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"input {row + 1} is {type(text).__name__}, this model reads texts", "give strings")
        return self.tokenizer.encode_batch(list(texts))


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
        write_atomic(folder / IMAGES, _json(self._values()))

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


def load_processor(folder: Path) -> Processor:
    """Read the processor of a model folder.

    Raises:
        ArtifactError: the folder holds neither a tokenizer nor an image processor, or it cannot be read.
    """
    try:
        if (folder / TOKENIZER).is_file():
            return _load_text(folder)
        if (folder / IMAGES).is_file():
            return _load_image(json.loads((folder / IMAGES).read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtifactError(f"the processor of {folder} cannot be read: {error}", "make the model again") from None
    raise ArtifactError(f"{folder} has neither {TOKENIZER} nor {IMAGES}", "give the folder of a model")


def text_processor_from_hub(tokenizer: Any, max_length: int) -> TextProcessor:
    """Return the processor of a transformers tokenizer.

    Raises:
        ModelError: it is not backed by the `tokenizers` library, or has no padding token.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no tokenizer.json form",
            "convert it once with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder)",
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{type(tokenizer).__name__} has no padding token", "set pad_token in its configuration")
    roles = {role: str(token) for role in ROLES if (token := getattr(tokenizer, role, None)) is not None}
    return TextProcessor(backend, _config(roles), max_length, int(tokenizer.pad_token_id))


def train_text_processor(texts: Sequence[str], *, vocab_size: int, max_length: int) -> TextProcessor:
    """Train a lower-case WordPiece tokenizer on texts; the same texts, in any order, give the same tokenizer.

    Texts are NFC-normalised; accents and vowel signs are kept. Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4.

    Args:
        texts: of the training split only.
        vocab_size: most entries, special tokens included.
        max_length: tokens a text is cut to.
    """
    from lessen.data.wordpiece import train

    roles = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return TextProcessor(train(texts, vocab_size), _config(roles), max_length, 0)


def _config(roles: Mapping[str, str]) -> dict[str, Any]:
    return {
        **roles,
        "model_input_names": list(TextProcessor.input_names),
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
    }


def _load_text(folder: Path) -> TextProcessor:
    from tokenizers import Tokenizer

    config = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{TOKENIZER}: {error}") from None
    longest = int(config["model_max_length"])
    if longest >= UNBOUNDED:
        raise ValueError(f"{TOKENIZER_CONFIG} states no model_max_length")
    pad = config.get("pad_token")
    pad = pad["content"] if isinstance(pad, dict) else pad
    pad_id = tokenizer.token_to_id(pad) if pad is not None else None
    if pad_id is None:
        raise ValueError(f"{TOKENIZER_CONFIG} names no padding token of {TOKENIZER}")
    return TextProcessor(tokenizer, config, longest, pad_id)


def _load_image(values: dict[str, Any]) -> ImageProcessor:
    """Read an image processor's configuration, ours or one of transformers."""
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


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
