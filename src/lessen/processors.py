"""Text to token ids, images to pixels: what stands between an input and a model.

A processor is saved in the model's folder and read back from there, so that a model can never be fed through
another's. Texts are read by the `tokenizers` library, images by Pillow. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from lessen.context import digest, write_atomic
from lessen.data.image_processor import IMAGES, ImageProcessor, load_image
from lessen.errors import ArtifactError, DataError, ModelError, RecipeError

__all__ = [
    "ImageProcessor", "Processor", "TextProcessor", "load_processor", "text_processor_from_hub", "train_bpe_processor",
    "train_text_processor",
]  # fmt: skip
Array = np.ndarray[Any, Any]

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")
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
            config: content of tokenizer_config.json; the special tokens by role. With `split_special_tokens` a text
                that spells a special token is read as any other text.
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
        self.tokenizer.encode_special_tokens = bool(config.get("split_special_tokens"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokenizer, the longest length, the padding id, and what start and end a sequence."""
        values = {"tokenizer": self.tokenizer.to_str(), "max_length": self.max_length, "pad_id": self.pad_id}
        ends = {"eos": self.eos_id, "bos": self.bos_id, "split": self.config.get("split_special_tokens")}
        return digest({**values, **{name: value for name, value in ends.items() if value is not None}})

    @cached_property
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
            found = self._id(role)
            if found is not None:
                return found
        raise RecipeError("token_dropout needs a mask or unknown token, this tokenizer has neither", "set it to 0")

    @property
    def eos_id(self) -> int | None:
        """The id of the token that ends a sequence, if the tokenizer has one."""
        return self._id("eos_token")

    @property
    def bos_id(self) -> int | None:
        """The id of the token that begins a sequence, if the tokenizer has one."""
        return self._id("bos_token")

    def cut_to(self, max_length: int) -> TextProcessor:
        """Return the processor with another longest length."""
        return (
            self if max_length == self.max_length else type(self)(self.tokenizer, self.config, max_length, self.pad_id)
        )

    def tokens(self, texts: Sequence[str]) -> list[tuple[Array, Array]]:
        """Return each whole text's int32 ids [n] and int64 [start, end) in characters [n, 2]; no special tokens."""
        return [
            (np.asarray(e.ids, dtype=np.int32), np.asarray(e.offsets, dtype=np.int64).reshape(-1, 2))
            for e in self._encoded(texts, whole=True)
        ]

    def decode(self, ids: Sequence[int] | Array) -> str:
        """Return the text of token ids; special tokens are left out."""
        return str(self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=True))

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
        """Write tokenizer.json and tokenizer_config.json; transformers.AutoTokenizer reads them too.

        Beside a config.json of model_type qwen2 it rebuilds Qwen's own tokenizer instead, whatever the folder says
        (transformers 5.23); PreTrainedTokenizerFast reads it there.
        """
        write_atomic(folder / TOKENIZER, self.tokenizer.to_str())
        config = {**self.config, "tokenizer_class": "PreTrainedTokenizerFast"}  # others rebuild their own normalizer
        write_atomic(folder / TOKENIZER_CONFIG, _json(config))

    @cached_property
    def _whole(self) -> Any:
        """The tokenizer without a longest length."""
        from tokenizers import Tokenizer

        whole = Tokenizer.from_str(self.tokenizer.to_str())
        whole.no_truncation()
        whole.encode_special_tokens = self.tokenizer.encode_special_tokens
        return whole

    def _id(self, role: str) -> int | None:
        token = _content(self.config.get(role))
        found = None if token is None else self.tokenizer.token_to_id(token)
        return None if found is None else int(found)

    def _encoded(self, texts: Sequence[str], whole: bool = False) -> Any:
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"input {row + 1} is {type(text).__name__}, this model reads texts", "give strings")
        if whole:
            return self._whole.encode_batch(list(texts), add_special_tokens=False)
        return self.tokenizer.encode_batch(list(texts))


def load_processor(folder: Path) -> Processor:
    """Read the processor of a model folder.

    Raises:
        ArtifactError: the folder holds neither a tokenizer nor an image processor, or it cannot be read.
    """
    try:
        if (folder / TOKENIZER).is_file():
            return _load_text(folder)
        if (folder / IMAGES).is_file():
            return load_image(json.loads((folder / IMAGES).read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtifactError(f"the processor of {folder} cannot be read: {error}", "make the model again") from None
    raise ArtifactError(f"{folder} has neither {TOKENIZER} nor {IMAGES}", "give the folder of a model")


def text_processor_from_hub(tokenizer: Any, max_length: int) -> TextProcessor:
    """Return the processor of a transformers tokenizer; one without a padding token pads with its end token.

    Raises:
        ModelError: it is not backed by the `tokenizers` library, or has neither a padding nor an end token.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no tokenizer.json form",
            "convert it once with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder)",
        )
    roles = {role: str(token) for role in ROLES if (token := getattr(tokenizer, role, None)) is not None}
    pad = roles.setdefault("pad_token", roles.get("eos_token", ""))
    pad_id = backend.token_to_id(pad)
    if pad_id is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no padding token and no end token", "set pad_token in its configuration"
        )
    config = _config(roles)
    if getattr(tokenizer, "split_special_tokens", False):
        config["split_special_tokens"] = True
    return TextProcessor(backend, config, max_length, int(pad_id))


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


def train_bpe_processor(texts: Sequence[str], *, vocab_size: int, max_length: int) -> TextProcessor:
    """Train a byte-level BPE tokenizer on texts; the same texts, in any order, give the same tokenizer.

    Nothing is normalised: decoding returns every text as it was. Ids: <pad> 0, </s> 1 (ends a sequence), <unk> 2
    (never made). A text that spells one of these is read as any other text.

    Args:
        texts: of the training split only.
        vocab_size: most entries; bytes and special tokens take 259.
        max_length: tokens a text is cut to, the end token included.
    """
    from lessen.data.bytepair import SPECIAL, train

    roles = dict(zip(("pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    config = {**_config(roles), "split_special_tokens": True}
    return TextProcessor(train(texts, vocab_size), config, max_length, 0)


def _content(token: Any) -> str | None:
    """Return a special token as tokenizer_config.json writes it: a string, or an object with its content."""
    content = token["content"] if isinstance(token, dict) else token
    return None if content is None else str(content)


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
    pad = _content(config.get("pad_token"))
    pad_id = tokenizer.token_to_id(pad) if pad is not None else None
    if pad_id is None:
        raise ValueError(f"{TOKENIZER_CONFIG} names no padding token of {TOKENIZER}")
    return TextProcessor(tokenizer, config, longest, pad_id)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
