"""Read a text file whole, packed by gzip or not, and say precisely what is wrong with it. Imports no torch."""

from __future__ import annotations

import difflib
import gzip
import zlib
from pathlib import Path

from lessen.errors import DataError

BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8"}


def existing(path: str | Path | None) -> Path:
    """Return the path of a file or folder that exists.

    Raises:
        DataError: none was given, or there is nothing there; the message names the nearest neighbour.
    """
    if path is None:
        raise DataError("data.path is not set", "give a file, a folder, a hub data set id, or an embedded data.source")
    found = Path(path).expanduser()
    if found.exists():
        return found
    names = [f.name for f in found.parent.iterdir()] if found.parent.is_dir() else []
    near = difflib.get_close_matches(found.name, names, 1)
    raise DataError(
        f"there is no file or folder {path}", f"did you mean {found.parent / near[0]}?" if near else "check data.path"
    )


def read_text(path: Path, encoding: str) -> str:
    """Return a file's text, without a byte-order mark; .gz is unpacked.

    Raises:
        DataError: the encoding is unknown or wrong (with the position of the first byte that does not fit), or the
            file cannot be read or is empty.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder", "give a file, or set data.source to folder or image_folder")
    try:
        raw = path.read_bytes()
        if path.suffix.lower() == ".gz":
            raw = gzip.decompress(raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}", "fetch or pack it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "check its permissions") from None
    try:
        text = raw.decode(encoding)
    except LookupError:
        raise DataError(f"there is no encoding {encoding!r}", "try utf-8, utf-16, cp1252 or latin-1") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not {encoding}: byte 0x{raw[error.start]:02x} at position {error.start} (line {line})",
            f"set --data.encoding, for example {_guess(raw, encoding)}",
        ) from None
    if "\0" in text:
        raise DataError(
            f"{path} read as {encoding} holds a zero character at position {text.index(chr(0))}",
            f"set --data.encoding, for example {_guess(raw, encoding)}",
        )
    if not text.strip():
        raise DataError(f"{path} is empty", "give a file with rows")
    return text.removeprefix("\ufeff")


def _guess(raw: bytes, tried: str) -> str:
    for mark, name in BOMS.items():
        if raw.startswith(mark):
            return name
    if b"\0" in raw[:1000]:
        return "utf-16-le"
    return "cp1252 or utf-16" if tried.lower().replace("-", "") == "utf8" else "utf-8"
