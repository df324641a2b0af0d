"""A multipart form as it comes in: in pieces of any size, slowly, cut off, or not at all."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from lessen.errors import ResourceError
from lessen.server import receive
from lessen.server.problems import RequestError


def form(*files, boundary=b"xyz"):
    out = b""
    for name, content in files:
        out += b"--" + boundary + b'\r\ncontent-disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
        out += content + b"\r\n"
    return out + b"--" + boundary + b"--\r\n"


def request_of(pieces, *, stall=False, gone=False):
    left = list(pieces)

    async def more():
        if left:
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left) or stall or gone}
        if gone:
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=xyz")]
    return Request({"type": "http", "method": "POST", "path": "/upload", "headers": headers, "query_string": b""}, more)


def take(request, folder, limit=1 << 20):
    return asyncio.run(receive.receive(request, folder, limit))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.data())
def test_the_files_are_the_same_however_the_form_is_cut(tmp_path_factory, contents, data):
    body = form(*[(b"f%d.csv" % i, content) for i, content in enumerate(contents)])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    folder = tmp_path_factory.mktemp("form")
    if any(b"\r\n--xyz" in content for content in contents):
        return
    parts = take(request_of(pieces), folder)
    assert [part.name for part in parts] == [f"f{i}.csv" for i in range(len(contents))]
    assert [part.path.read_bytes() for part in parts] == contents
    assert [part.bytes for part in parts] == [len(content) for content in contents]


def test_the_files_are_counted_together(tmp_path):
    body = form((b"a.csv", b"x" * 60), (b"b.csv", b"y" * 60))
    (tmp_path / "enough").mkdir()
    assert len(take(request_of([body]), tmp_path / "enough", limit=120)) == 2
    with pytest.raises(RequestError) as told:
        take(request_of([body]), tmp_path, limit=119)
    assert told.value.status == 413


def test_who_sends_nothing_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(receive, "STALL_S", 0.05)
    with pytest.raises(RequestError) as told:
        take(request_of([form((b"a.csv", b"x" * 50))[:60]], stall=True), tmp_path)
    assert told.value.status == 408


def test_a_connection_that_ends_early_is_no_error_of_ours(tmp_path):
    with pytest.raises(RequestError, match="connection ended"):
        take(request_of([form((b"a.csv", b"x" * 50))[:60]], gone=True), tmp_path)


def test_a_long_header_and_long_fields_are_refused(tmp_path):
    with pytest.raises(RequestError) as told:
        take(request_of([form((b"a" * 20_000, b"x"))]), tmp_path)
    assert told.value.status == 400
    field = b'--xyz\r\ncontent-disposition: form-data; name="note"\r\n\r\n' + b"y" * 70_000 + b"\r\n"
    with pytest.raises(RequestError) as told:
        take(request_of([field + form((b"a.csv", b"x"))]), tmp_path)
    assert told.value.status == 413


def test_other_fields_are_left_out(tmp_path):
    field = b'--xyz\r\ncontent-disposition: form-data; name="note"\r\n\r\nhello\r\n'
    parts = take(request_of([field + form((b"a.csv", b"x"))]), tmp_path)
    assert [part.name for part in parts] == ["a.csv"]


@pytest.mark.parametrize(
    ("sent", "name"),
    [(b"/etc/passwd.csv", "passwd.csv"), (b"..\\\\..\\\\x.csv", "x.csv"), ("বাংলা.csv".encode(), "বাংলা.csv"),
     (b"a\x01b.csv", "a?b.csv"), (b"\xff.csv", "\ufffd.csv")],
)  # fmt: skip
def test_a_name_is_for_people_only(tmp_path, sent, name):
    parts = take(request_of([form((sent, b"x"))]), tmp_path)
    assert parts[0].name == name
    assert parts[0].path == tmp_path / "0"


def test_a_full_disk_is_told_before_the_first_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(receive, "SPARE_BYTES", 1 << 62)
    with pytest.raises(ResourceError) as told:
        take(request_of([form((b"a.csv", b"x"))]), tmp_path)
    assert told.value.kind == "disk_full"
