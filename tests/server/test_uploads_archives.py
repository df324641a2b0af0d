"""Zip archives made by somebody who means harm, or by chance: bounded, inside, and nothing but images or a model."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lessen.errors import LessenError
from lessen.server import accept, unpack, uploads
from lessen.server.receive import Part

LIMIT = 1 << 20


def png(size=(4, 4)):
    stream = io.BytesIO()
    Image.new("L", size).save(stream, format="PNG")
    return stream.getvalue()


def entry(name, mode=0o644 | stat.S_IFREG, method=zipfile.ZIP_DEFLATED):
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    return info


def archive(*extra):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        for label in "ab":
            for i in range(2):
                out.writestr(entry(f"{label}/{i}.png"), png())
        for info, content in extra:
            out.writestr(info, content)
    return stream.getvalue()


def take(folder: Path, content: bytes, name="x.zip", limit=LIMIT):
    own = folder / str(len(list(folder.iterdir())))  # of this upload
    own.mkdir()
    (own / "0").write_bytes(content)
    return accept.accept([Part(name, own / "0", len(content))], own, limit)


@pytest.fixture
def folder(tmp_path):
    """The folder of an upload, with a neighbour that nothing may touch."""
    (tmp_path / "up").mkdir()
    (tmp_path / "neighbour").write_text("mine")
    yield tmp_path / "up"
    assert (tmp_path / "neighbour").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["neighbour", "up"]


def test_a_sound_archive_is_taken(folder):
    found = take(folder, archive())
    assert found.kind == "images"
    assert sorted(p.relative_to(found.path).as_posix() for p in found.path.rglob("*.png")) == [
        "a/0.png", "a/1.png", "b/0.png", "b/1.png",
    ]  # fmt: skip
    assert sorted(p.name for p in (folder / "0").iterdir()) == ["images"]


@pytest.mark.parametrize(
    "name",
    [
        "../neighbour", "a/../../neighbour.png", "/etc/cron.d/x.png", "..\\neighbour.png", "C:\\x.png", "C:x.png",
        "~/x.png",
        "a/\n.png", "a/" + "x" * 300 + ".png", "/".join("abcdefghij") + ".png", "a/..", "a\u202e/x.png",
    ],
)  # fmt: skip
def test_names_that_lead_out_are_refused(folder, name):
    with pytest.raises(LessenError, match="leads out of the archive"):
        take(folder, archive((entry(name), png())))


@pytest.mark.parametrize(
    "mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600, stat.S_IFCHR | 0o600, stat.S_IFSOCK | 0o600]
)
def test_links_and_devices_are_refused(folder, mode):
    with pytest.raises(LessenError, match="a link or a device"):
        take(folder, archive((entry("a/link.png", mode), b"/etc/passwd")))


@pytest.mark.parametrize("name", ["inner.zip", "a/inner.tar.gz", "b/X.7Z", "a/x.jar"])
def test_archives_within_are_refused(folder, name):
    with pytest.raises(LessenError, match="archive within the archive"):
        take(folder, archive((entry(name), archive())))


def test_pickles_within_are_refused(folder):
    with pytest.raises(LessenError, match="pickle"):
        take(folder, archive((entry("a/model.bin"), b"\x80\x04.")))


def test_encrypted_and_oddly_packed_entries_are_refused(folder):
    locked = entry("a/x.png", method=zipfile.ZIP_STORED)
    raw = bytearray(archive((locked, png())))
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 8] |= 1
    with pytest.raises(LessenError, match="encrypted"):
        take(folder, bytes(raw))
    with pytest.raises(LessenError, match="packed by method"):
        take(folder, archive((entry("a/y.png", method=zipfile.ZIP_LZMA), png())))


def test_the_same_place_twice_is_refused(folder):
    with pytest.raises(LessenError, match="twice"):
        take(folder, archive((entry("A/0.PNG"), png())))
    with pytest.raises(LessenError, match="as a file and as a folder"):
        take(folder, archive((entry("a/0.png/x.png"), png())))


def test_a_bomb_ends_when_its_bytes_are_counted_not_when_its_header_says(folder):
    raw = bytearray(archive((entry("a/bomb.png"), bytes(40 << 20))))
    assert len(raw) < LIMIT
    with pytest.raises(LessenError, match="come out of"):
        take(folder, bytes(raw))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):  # a header that says: 10 bytes
        at = raw.rindex(mark)
        offset = at + (22 if mark == b"PK\x03\x04" else 24)
        raw[offset : offset + 4] = struct.pack("<L", 10)
    with pytest.raises(LessenError):
        take(folder, bytes(raw))
    assert sum(f.stat().st_size for f in folder.rglob("*.png")) <= 2 * LIMIT


def test_an_image_of_too_many_pixels_is_not_decoded(folder):
    large = archive((entry("a/large.png"), png((6000, 6000))))
    with pytest.raises(LessenError, match="pixels"):
        take(folder, large, limit=64 << 20)
    header = bytearray(png())
    header[16:24] = struct.pack(">LL", 60_000, 60_000)  # of 3.6 billion pixels, it says
    header[29:33] = struct.pack(">L", zlib.crc32(header[12:29]))
    with pytest.raises(LessenError, match="pixels"):
        take(folder, archive((entry("a/liar.png"), bytes(header))))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg/>", png()[:40], b"\x80\x04."])
def test_what_is_no_image_is_refused_whatever_its_ending(folder, content):
    with pytest.raises(LessenError, match="image"):
        take(folder, archive((entry("a/x.png"), content)))


@pytest.mark.parametrize("names", [["a/0.png"], ["0.png", "1.png"], ["a/0.png", "b/0.png", "2.png"], ["notes.txt"], []])
def test_images_need_two_classes(folder, names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        for name in names:
            out.writestr(name, png())
    with pytest.raises(LessenError, match=r"class|no images"):
        take(folder, stream.getvalue())


def test_too_many_entries_are_refused_before_the_directory_is_read(folder, monkeypatch):
    monkeypatch.setattr(accept, "IMAGE_ENTRIES", 3)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(LessenError, match="4 entries; allowed are 3"):
        take(folder, SOUND)


SOUND = archive()


def test_a_directory_without_end_is_refused_before_it_is_read(folder, monkeypatch):
    raw = bytearray(archive())
    at = raw.rindex(b"PK\x05\x06")
    raw[at + 12 : at + 16] = struct.pack("<L", 1 << 30)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(LessenError, match="allowed are"):
        take(folder, bytes(raw))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_archives_are_refused_or_taken_but_never_worse(tmp_path_factory, data):
    raw = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(len(raw) // 2, len(raw)))]
    root = tmp_path_factory.mktemp("damaged")
    (root / "up").mkdir()
    with contextlib.suppress(LessenError):
        assert take(root / "up", bytes(raw)).kind == "images"
    assert [p.name for p in root.iterdir()] == ["up"]
    assert all(p.resolve().is_relative_to(root) and not p.is_symlink() for p in root.rglob("*"))


def test_a_model_has_one_folder_and_few_files(folder):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        for name in ("m/config.json", "n/model.safetensors"):
            out.writestr(name, b"{}")
    with pytest.raises(LessenError, match="2 folders"):
        take(folder, stream.getvalue())


def test_bounds_are_what_is_promised():
    assert (accept.IMAGE_ENTRIES, accept.MODEL_ENTRIES) == (10_000, 1_000)
    assert (uploads.AT_ONCE, uploads.KEPT_DAYS) == (2, 30)
    assert set(unpack.PICKLES) >= {".pt", ".pth", ".bin", ".pkl", ".ckpt", ".npz", ".h5"}


def test_an_image_that_ends_early_is_refused(folder):
    with pytest.raises(LessenError, match="broken image"):
        take(folder, archive((entry("a/x.png"), png((64, 64))[:-25])))
