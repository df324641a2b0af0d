"""Unpack a zip that a stranger made: inside its folder, within bounds, and nothing but what was asked for.

What the archive says of itself is not believed: bytes are counted while they come out, names are checked before a file
is made, and links, encrypted entries and archives within the archive end it.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lessen.errors import DataError, LessenError
from lessen.server.problems import RequestError

END, END_BYTES, LONGEST_COMMENT = b"PK\x05\x06", 22, 65_535
DIRECTORY_BYTES = 320  # of an entry in the archive's directory, on average at most
CHUNK_BYTES = 1 << 16
LONGEST_NAME, DEEPEST = 200, 8
ARCHIVES = (
    ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".lz4", ".jar", ".whl", ".iso", ".cab",
)  # fmt: skip
PICKLES = (
    ".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".hdf5", ".keras", ".mar",
    ".dill", ".msgpack",
)  # fmt: skip
JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Bounds:
    """How much may come out of an archive."""

    entries: int
    bytes: int  # of all files
    file_bytes: int  # of one file


@dataclass(frozen=True)
class Unpacked:
    """What came out."""

    files: tuple[Path, ...]
    bytes: int
    ignored: int  # entries that were not asked for


def names(archive: Path, name: str, entries: int) -> list[str]:
    """Return the names of the files in a zip, without unpacking it.

    Raises:
        DataError: it is no zip, or says that it has too much.
        RequestError: it has more entries than allowed (413).
    """
    _directory(archive, name, entries)
    with _opened(archive, name) as opened:
        return [info.filename for info in opened.infolist() if not info.is_dir()]


def unpack(archive: Path, name: str, folder: Path, bounds: Bounds, wanted: Callable[[PurePosixPath], bool]) -> Unpacked:
    """Write the wanted files of a zip below a folder.

    Args:
        name: of the archive, for messages.
        folder: is made.
        wanted: says which files; others are left out and counted.

    Raises:
        DataError: it is damaged, or holds what no such archive holds.
        RequestError: more comes out of it than the bounds say (413).
    """
    _directory(archive, name, bounds.entries)
    folder.mkdir()
    files: list[Path] = []
    seen: set[str] = set()
    total = ignored = 0
    with _opened(archive, name) as opened:
        for info in opened.infolist():
            path = _checked(info, name)
            if info.is_dir():
                continue
            if _junk(path) or not wanted(path):
                ignored += 1
                continue
            if str(path).casefold() in seen:
                raise DataError(f"{name} has {str(path)!r} twice", "pack it again")
            seen.add(str(path).casefold())
            target = folder / path
            total += _write(opened, info, target, name, bounds, bounds.bytes - total)
            files.append(target)
    return Unpacked(tuple(files), total, ignored)


def _directory(archive: Path, name: str, entries: int) -> None:
    """Refuse a zip by the record at its end, before its directory is read into memory."""
    size = archive.stat().st_size
    with archive.open("rb") as stream:
        if stream.read(4) not in (b"PK\x03\x04", END):
            raise DataError(f"{name} is no zip archive", "pack the files with zip")
        stream.seek(max(0, size - END_BYTES - LONGEST_COMMENT))
        tail = stream.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) - at < END_BYTES:
        raise DataError(f"{name} is cut short: a zip ends with its directory", "pack or send it again")
    disk, first, here, count, length, start, _ = struct.unpack("<4H2LH", tail[at + 4 : at + END_BYTES])
    if disk or first or here != count or 0xFFFF in (count,) or 0xFFFFFFFF in (length, start):
        raise DataError(f"{name} is a zip of several parts or of the 64-bit form", "pack fewer files into a plain zip")
    if count > entries or length > entries * DIRECTORY_BYTES:
        raise RequestError(
            413, f"{name} has {count} entries; allowed are {entries}", "hand in fewer files", exit_code=7
        )


def _opened(archive: Path, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise _broken(name, error) from None


def _checked(info: zipfile.ZipInfo, name: str) -> PurePosixPath:
    """Return where an entry shall lie below the folder.

    Raises:
        DataError: it is a link or device, encrypted, packed in an unusual way, or its name leads out.
    """
    raw = info.orig_filename
    shown = f"{name} has an entry {raw[:80]!r}"
    path = PurePosixPath(info.filename)
    odd = not raw.isprintable() or "\\" in raw or ":" in raw or raw.startswith(("/", "~")) or raw != info.filename
    if odd or not path.parts or ".." in path.parts or len(raw) > LONGEST_NAME or len(path.parts) > DEEPEST:
        raise DataError(f"{shown}: its name leads out of the archive, is too long, or is no name", "rename it")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{shown}, which is a link or a device", "pack the files themselves")
    if info.flag_bits & 0x41:
        raise DataError(f"{shown}, which is encrypted", "pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{shown}, packed by method {info.compress_type}", "pack it with deflate")
    if path.suffix.lower() in ARCHIVES:
        raise DataError(f"{shown}, an archive within the archive", "unpack it first")
    if path.suffix.lower() in PICKLES:
        raise DataError(f"{shown}: a pickle can run code when it is read, so none is", "convert it to safetensors")
    return path


def _junk(path: PurePosixPath) -> bool:
    return any(part in JUNK or part.startswith("._") for part in path.parts)


def _write(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, name: str, bounds: Bounds, left: int
) -> int:  # fmt: skip
    """Unpack one file and return its bytes."""
    written, most = 0, min(bounds.file_bytes, left)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(info) as source, target.open("xb") as out:
            while chunk := source.read(CHUNK_BYTES):
                written += len(chunk)
                if written > most:
                    raise _too_much(name, bounds)
                out.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise _broken(name, error) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise DataError(f"{name} has {info.filename[:80]!r} as a file and as a folder", "pack it again") from None
    return written


def _too_much(name: str, bounds: Bounds) -> LessenError:
    return RequestError(
        413, f"more than {bounds.bytes} bytes in all or {bounds.file_bytes} in a file come out of {name}",
        "hand in less", exit_code=7,
    )  # fmt: skip


def _broken(name: str, error: Exception) -> LessenError:
    return DataError(f"{name} is a damaged zip: {str(error)[:200]}", "pack or send it again")
