"""What was handed in becomes a table, a folder of images or a model, or is refused. Endings and contents must agree.

Weights come as safetensors alone: a pickle can run code when it is read, whatever it is called.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from lessen.errors import DataError, LessenError, ModelError
from lessen.server import tables, unpack
from lessen.server.problems import RequestError
from lessen.server.receive import Part
from lessen.server.tensors import check_tensors

Kind = Literal["table", "images", "model"]
IMAGE_ENTRIES, MODEL_ENTRIES = 10_000, 1_000
MAX_IMAGE_BYTES = 32 << 20
MAX_PIXELS = 20_000_000
MAX_JSON_BYTES, MAX_CONFIG_BYTES = 64 << 20, 1 << 20
IMAGES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}
CONFIG, WEIGHTS = "config.json", ".safetensors"
MODEL_JSON = (
    CONFIG, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "generation_config.json", "preprocessor_config.json", "lessen.json", "model.safetensors.index.json",
)  # fmt: skip
MODEL_TEXT = ("vocab.txt", "merges.txt", "chat_template.jinja")
MODEL_PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
WEIGHTS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\.safetensors")
TAKEN = (
    "CSV, TSV, JSON and JSON lines; a zip of images, one folder a class; "
    "config.json, safetensors and tokenizer of a model, together or zipped"
)


@dataclass(frozen=True)
class Accepted:
    """What an upload turned out to be.

    Attributes:
        path: the file or folder, below the folder of the upload.
        facts: what there is to know of it.
    """

    kind: Kind
    path: Path
    bytes: int
    facts: dict[str, Any] = field(default_factory=dict)


def accept(parts: Sequence[Part], folder: Path, limit: int) -> Accepted:
    """Check what came and put it where it belongs; takes time, call it in a thread.

    Args:
        parts: the files, which lie in the folder and are moved or removed.
        folder: of the upload.
        limit: bytes of an upload; twice as much may come out of an archive.

    Raises:
        RequestError: of a kind that is not taken (415), or too much (413).
        DataError, ModelError, ArtifactError: it is not what it says it is.
    """
    for part in parts:
        if Path(part.name).suffix.lower() in unpack.PICKLES:
            raise RequestError(
                415, f"{part.name}: a pickle can run code when it is read, so none is",
                "hand in config.json and model.safetensors",
            )  # fmt: skip
    suffix = Path(parts[0].name).suffix.lower()
    if len(parts) == 1 and suffix in tables.SUFFIXES and parts[0].name != CONFIG:
        return _table(parts[0], folder, suffix)
    if len(parts) == 1 and suffix == ".zip":
        return _zip(parts[0], folder, limit)
    if len(parts) > 1 or suffix == WEIGHTS or _belongs(parts[0].name):
        return _model_files(parts, folder)
    raise RequestError(415, f"{parts[0].name} is of no kind that is taken", f"taken are {TAKEN}")


def _table(part: Part, folder: Path, suffix: str) -> Accepted:
    facts = tables.check_table(part.path, part.name)
    path = folder / f"table{suffix}"
    part.path.rename(path)
    return Accepted("table", path, part.bytes, facts)


def _zip(part: Part, folder: Path, limit: int) -> Accepted:
    names = unpack.names(part.path, part.name, IMAGE_ENTRIES)
    if any(name.lower().endswith(WEIGHTS) for name in names):
        bounds = unpack.Bounds(MODEL_ENTRIES, 2 * limit, 2 * limit)
        out = unpack.unpack(part.path, part.name, folder / "zip", bounds, lambda path: _belongs(path.name))
        found = _model(_one_folder(out.files, part.name), folder, part.name, out.ignored)
    else:
        bounds = unpack.Bounds(IMAGE_ENTRIES, 2 * limit, MAX_IMAGE_BYTES)
        out = unpack.unpack(part.path, part.name, folder / "zip", bounds, _is_image)
        found = _images(out, folder, part.name)
    part.path.unlink()
    return found


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")


def _images(out: unpack.Unpacked, folder: Path, name: str) -> Accepted:
    if not out.files:
        raise DataError(f"{name} holds no images ({', '.join(IMAGES)})", "zip one folder of images per class")
    for file in out.files:
        _check_image(file, f"{file.relative_to(folder / 'zip')} in {name}")
    top = _descend(folder / "zip")
    classes = Counter(_class_of(file.relative_to(top)) for file in out.files)
    if "" in classes or len(classes) < 2:
        raise DataError(
            f"{name} holds images of {len(classes)} class(es)" + (", some in no folder" if "" in classes else ""),
            "zip one folder of images per class, or train, validation and test folders of these",
        )
    path = folder / "images"
    top.rename(path)
    _drop_empty(folder / "zip")
    facts = {"images": len(out.files), "classes": dict(sorted(classes.items())), "ignored": out.ignored}
    return Accepted("images", path, out.bytes, facts)


def _descend(root: Path) -> Path:
    """Return the folder that holds the classes: folders that hold nothing but one folder of folders are passed."""
    while True:
        inner = list(root.iterdir())
        if len(inner) != 1 or not inner[0].is_dir() or not any(p.is_dir() for p in inner[0].iterdir()):
            return root
        root = inner[0]


_PARTS = re.compile(r"train(ing)?|valid(ation)?|val|dev|test(ing)?", re.IGNORECASE)


def _class_of(path: Path) -> str:
    """Return the class of an image by its folder; below a folder named after a part, by the next one."""
    folders = path.parts[:-1]
    if len(folders) > 1 and _PARTS.fullmatch(folders[0]):
        return folders[1]
    return folders[0] if folders else ""


def _drop_empty(folder: Path) -> None:
    """Remove what is left of the folders that were passed."""
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        path.rmdir()
    if folder.is_dir():
        folder.rmdir()


def _check_image(file: Path, shown: str) -> None:
    """Decode an image, once its header says that it is of a sensible size.

    Raises:
        DataError: it is none, is damaged, or has too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    from lessen.data.images import EIGHT_BIT

    try:
        with Image.open(file, formats=tuple(sorted(set(IMAGES.values())))) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(shown)
            if image.mode not in EIGHT_BIT:
                raise DataError(f"{shown} has more than 8 bits a channel ({image.mode})", "convert it to 8 bits")
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(shown) from None
    except UnidentifiedImageError:
        raise DataError(f"{shown} is no image, whatever its ending says", "remove it") from None
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, EOFError, ZeroDivisionError) as error:
        raise DataError(f"{shown} is a broken image: {str(error)[:200]}", "remove or replace it") from None


def _too_large(shown: str) -> LessenError:
    return DataError(f"{shown} has more than {MAX_PIXELS} pixels", "scale it down")


def _belongs(name: str) -> bool:
    """Whether a file of this name is part of a model."""
    return name in (*MODEL_JSON, *MODEL_TEXT, *MODEL_PIECES) or WEIGHTS_NAME.fullmatch(name) is not None


def _model_files(parts: Sequence[Part], folder: Path) -> Accepted:
    names = [part.name for part in parts]
    strange = [name for name in names if not _belongs(name)]
    if strange:
        raise RequestError(
            415, f"{strange[0]} is no part of a model, and several files are taken as one model",
            f"taken are {', '.join((*MODEL_JSON, *MODEL_TEXT, *MODEL_PIECES))} and *.safetensors",
        )  # fmt: skip
    if len(set(names)) < len(names):
        raise ModelError("two of the files have the same name", "hand in each once")
    inner = folder / "parts"
    inner.mkdir()
    for part in parts:
        part.path.rename(inner / part.name)
    return _model(inner, folder, names[0], 0)


def _one_folder(files: Sequence[Path], name: str) -> Path:
    """Return the one folder in which the files of a zipped model lie."""
    folders = {file.parent for file in files}
    if len(folders) != 1:
        raise ModelError(f"{name} holds files of models in {len(folders)} folders", "zip one model folder")
    return folders.pop()


def _model(inner: Path, folder: Path, name: str, ignored: int) -> Accepted:
    """Check the files of a model and put its folder where it belongs."""
    there = {file.name: file for file in inner.iterdir()}
    weights = sorted(file for file in there if file.endswith(WEIGHTS))
    if CONFIG not in there or not weights:
        missing = CONFIG if CONFIG not in there else "model.safetensors"
        raise ModelError(f"{name}: a model needs {missing} too", "hand in config.json, safetensors and tokenizer files")
    config = _config(there[CONFIG])
    counts = [check_tensors(there[file], file) for file in weights]
    for file in there.values():
        _check_side(file)
    path = folder / "model"
    inner.rename(path)
    _drop_empty(folder / "zip")
    facts = {
        "model_type": config["model_type"],
        "architectures": config["architectures"],
        "tensors": sum(c["tensors"] for c in counts),
        "parameters": sum(c["parameters"] for c in counts),
        "files": sorted(there),
        "ignored": ignored,
    }
    return Accepted("model", path, sum(f.stat().st_size for f in path.iterdir()), facts)


def _config(file: Path) -> dict[str, Any]:
    """Return model_type and architectures of a configuration.

    Raises:
        ModelError: it is no configuration of a model.
    """
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ModelError(f"{CONFIG} is longer than {MAX_CONFIG_BYTES} bytes", "is it the model's configuration?")
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise ModelError(f"{CONFIG} is not JSON", "hand in the model's configuration") from None
    kind = found.get("model_type") if isinstance(found, dict) else None
    if not isinstance(kind, str) or not kind.isprintable() or len(kind) > 100:
        raise ModelError(f"{CONFIG} says no model_type", "hand in the model's configuration")
    told = found.get("architectures")
    names = [str(name)[:100] for name in told[:10]] if isinstance(told, list) else []
    return {"model_type": kind, "architectures": names}


def _check_side(file: Path) -> None:
    """Refuse a file beside the weights that is not what its name says."""
    size = file.stat().st_size
    if file.name.endswith(WEIGHTS):
        return
    if size > MAX_JSON_BYTES:
        raise RequestError(413, f"{file.name} is longer than {MAX_JSON_BYTES} bytes", exit_code=7)
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    if file.name in MODEL_PIECES:
        sound = head.startswith(b"\x0a")  # a protocol buffer whose first field has a length: the pieces
    else:
        text = head.decode("utf-8", "ignore")
        sound = tables.BINARY.search(text) is None and (file.name in MODEL_TEXT or text.lstrip().startswith("{"))
    if not sound:
        raise ModelError(f"{file.name} is not what its name says", "hand in the tokenizer's own file")
