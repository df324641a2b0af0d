"""Encoded samples on disk, keyed by content: a changed tokenizer or row is another key, never a stale answer.

Texts lie in one .npz (ids end to end, and where each text ends), images in one .npy that is mapped, not read. No
pickle. Files appear whole or not at all; a damaged one is made again.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.context import digest, write_atomic
from lessen.data.split import Split
from lessen.errors import ResourceError

if TYPE_CHECKING:
    from lessen.processors import Processor

Array = np.ndarray[Any, Any]
STEP = 256  # images encoded at a time


def tokens(split: Split, processor: Processor, cache_dir: Path | None) -> list[Array]:
    """Return the token ids of a split's texts."""
    if cache_dir is None:
        return processor.encode(split.inputs)
    path = cache_dir / "tokens" / f"{_key(split, processor, 'tokenizers')}.npz"
    return _kept(path, len(split), lambda: processor.encode(split.inputs))


def lists(key: dict[str, Any], count: int, make: Callable[[], list[Array]], cache_dir: Path | None) -> list[Array]:
    """Return `count` int32 arrays that a key stands for: those on disk, or made now and kept.

    Args:
        key: everything that decides the content, as plain values; the library's version is added.
        cache_dir: none: nothing is kept.
    """
    if cache_dir is None:
        return make()
    name = digest({**key, "tokenizers": version("tokenizers")})[:32]
    return _kept(cache_dir / "tokens" / f"{name}.npz", count, make)


def _kept(path: Path, count: int, make: Callable[[], list[Array]]) -> list[Array]:
    found = _read_tokens(path, count)
    if found is not None:
        return found
    items = make()
    flat = np.concatenate(items) if items else np.zeros(0, dtype=np.int32)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, ids=flat, lengths=np.asarray([len(x) for x in items], dtype=np.int64))
    with _disk(path):
        write_atomic(path, buffer.getvalue())
    return items


def pixels(split: Split, processor: Processor, cache_dir: Path | None) -> Sequence[Array]:
    """Return the pixels of a split's images; from the cache they are mapped from disk."""
    if cache_dir is None:
        return processor.encode(split.inputs)
    path = cache_dir / "images" / f"{_key(split, processor, 'pillow')}.npy"
    found = _read_pixels(path, len(split))
    if found is not None:
        return found
    _write_pixels(path, split, processor)
    made = _read_pixels(path, len(split))
    if made is None:
        raise ResourceError(f"{path} cannot be read after writing", "check the disk, or set cache_dir elsewhere")
    return made


def _key(split: Split, processor: Processor, library: str) -> str:
    return digest(
        {"processor": processor.digest, "ids": digest(split.ids.tolist()), library: version(library), "form": 1}
    )[:32]


def _read_tokens(path: Path, rows: int) -> list[Array] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            ids, lengths = arrays["ids"], arrays["lengths"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
    if len(lengths) != rows or lengths.sum() != len(ids):
        return None
    return np.split(ids, np.cumsum(lengths)[:-1]) if rows else []


def _read_pixels(path: Path, rows: int) -> list[Array] | None:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return list(mapped) if len(mapped) == rows and mapped.dtype == np.uint8 else None


def _write_pixels(path: Path, split: Split, processor: Processor) -> None:
    """Encode a few images at a time into a file that takes its name when it is complete."""
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    try:
        shape = processor.encode([split.inputs[0]])[0].shape
        with _disk(path):
            mapped = np.lib.format.open_memmap(name, mode="w+", dtype=np.uint8, shape=(len(split), *shape))
        for at in range(0, len(split), STEP):
            part = [split.inputs[i] for i in range(at, min(at + STEP, len(split)))]
            mapped[at : at + len(part)] = np.stack(processor.encode(part))
        with _disk(path):
            mapped.flush()
            os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"the cache {path.parent} cannot be written: {error.strerror or error}", "free disk space, or set cache_dir"
        ) from None
