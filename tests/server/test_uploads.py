"""What people hand in: it becomes data or a teacher, or it is refused and nothing of it stays."""

from __future__ import annotations

import io
import json
import os
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from lessen import data
from lessen.server import uploads
from lessen.server.presets import recipe as preset

CSV = b"text,label\nthis is fine,good\n=SUM(A1:A9),bad\n@cmd|' /C calc'!A0,bad\n+1,good\n"
CONFIG = json.dumps({"model_type": "distilbert", "architectures": ["DistilBertModel"], "dim": 8}).encode()
WEIGHTS = save({"a.weight": np.ones((3, 4), dtype=np.float32), "b.bias": np.zeros(5, dtype=np.float16)})


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def put(client, *files, path="/upload"):
    return client.post(path, files=[("file", (name, content)) for name, content in files])


def png(shade=0, size=(8, 8)):
    stream = io.BytesIO()
    Image.new("L", size, shade).save(stream, format="PNG")
    return stream.getvalue()


def zipped(entries, **how):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, **how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def pictures(top=""):
    return zipped(
        [(f"{top}{label}/{i}.png", png(20 * i + k)) for k, label in enumerate(("cat", "dog")) for i in range(6)]
    )


@pytest.fixture
def service(client):
    return client.app.state.service


@pytest.fixture
def nothing_stays(service):
    """After the test, nothing of what was refused may lie about."""
    yield
    assert service.store.uploads() == []
    assert list(uploads.folder(service).iterdir()) == []


def test_a_table_becomes_a_data_source(client, service):
    answer = put(client, ("../../etc/My Data.csv", CSV))
    assert answer.status_code == 200
    found = answer.json()
    assert found["success"] is True
    assert found["file_path"] == f"upload:{found['upload_id']}"
    assert (found["kind"], found["name"], found["bytes"]) == ("table", "My Data.csv", len(CSV))
    assert found["facts"]["columns"] == ["text", "label"]
    assert found["facts"]["rows"] == 4
    recipe = preset("distillBert", "demo", uploads.resolve(service, {"data.path": found["file_path"]}))
    path = Path(recipe.data.path)
    assert path.read_bytes() == CSV
    assert path.is_relative_to(service.store.root / ".lessen" / "uploads")
    assert "My Data" not in str(path)


def test_cells_that_look_like_formulas_stay_the_text_they_are(client, service):
    found = put(client, ("x.csv", CSV)).json()
    first = [row[0] for row in found["facts"]["preview"]]
    assert first == ["this is fine", "=SUM(A1:A9)", "@cmd|' /C calc'!A0", "+1"]
    rows = [b"text,label"] + [
        b"%s %d,%s" % (t, i, y) for i in range(12) for t, y in ((b"=A%d" % i, b"x"), (b"b", b"y"))
    ]
    found = put(client, ("x.csv", b"\n".join(rows))).json()
    recipe = preset("distillBert", "demo", uploads.resolve(service, {"data": {"path": found["file_path"]}}))
    splits = data.load(recipe.data, recipe.task, 0)
    assert any(text.startswith("=A") for text in splits.train.inputs)


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.tsv", b'text\tlabel\na "lone mark\tx\nb\ty\n', 2),
        ("a.jsonl", b'{"text": "a", "label": 1}\n\n{"text": "b", "label": 0, "more": [1]}\n', 2),
        ("a.json", b'[{"text": "a", "label": 1}, {"text": "b", "label": 0}]', 2),
        ("a.json", b'{"text": ["a", "b", "c"], "label": [1, 0, 1]}', 3),
        ("a.json", b'{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', 2),
        ("a.csv", "text;label\nবাংলা লেখা;ঘৃণা\n".encode("utf-8-sig"), 1),
        ("texts.csv", b"text\none\ntwo\n", 2),
    ],
)
def test_tables_of_every_form(client, name, content, rows):
    answer = put(client, (name, content))
    assert answer.status_code == 200, answer.text
    assert answer.json()["facts"]["rows"] == rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"text,label\na,b\nc,d,e\n"),
        ("a.csv", b"just one thing\n"),
        ("a.csv", b"text,label\n\x00\x01\x02,b\n"),
        ("a.csv", b"text,label\n\xff\xfe\xfd,b\n"),
        ("a.csv", b""),
        ("a.csv", b"text,label\n" + b"x" * (2 << 20) + b",y\n"),
        ("a.csv", b"".join(b",%d" % i for i in range(5000)) + b"\n1,2\n"),
        ("a.jsonl", b'{"text": "a"}\n[1, 2]\n'),
        ("a.jsonl", b"[" * 100_000),
        ("a.json", b'{"a": ' * 50_000),
        ("a.json", b'"only a string"'),
        ("a.json", b" " * (9 << 20)),
    ],
)
@pytest.mark.usefixtures("nothing_stays")
def test_what_only_bears_the_name_of_a_table_is_refused(client, name, content):
    answer = put(client, (name, content))
    assert answer.status_code == 422, answer.text[:300]
    assert answer.json()["success"] is False
    assert answer.json()["error"]


def test_a_zip_of_images_becomes_a_data_source(client, service):
    for content in (pictures(), pictures("flowers/")):
        found = put(client, ("flowers.zip", content)).json()
        assert found["kind"] == "images"
        assert found["facts"] == {"images": 12, "classes": {"cat": 6, "dog": 6}, "ignored": 0}
        given = uploads.resolve(service, {"data": {"path": found["file_path"], "validation_frac": 0.2}})
        recipe = preset("ResNet-18", "demo", given)
        splits = data.load(recipe.data, recipe.task, 0)
        assert splits.labels == ("cat", "dog")


def test_parts_and_leavings_of_a_mac_are_understood(client):
    entries = [(f"{part}/{label}/{i}.png", png(i)) for part in ("train", "test") for label in "ab" for i in range(2)]
    junk = [("__MACOSX/train/a/._0.png", b"x"), ("train/.DS_Store", b"x"), ("README.txt", b"mine")]
    found = put(client, ("x.zip", zipped(entries + junk))).json()
    assert found["facts"] == {"images": 8, "classes": {"a": 4, "b": 4}, "ignored": 3}


def test_the_files_of_a_model_become_a_teacher(client, service):
    files = [("config.json", CONFIG), ("model.safetensors", WEIGHTS), ("tokenizer.json", b'{"model": {}}')]
    answers = [put(client, *files), put(client, ("m.zip", zipped([(f"m/{name}", body) for name, body in files])))]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["kind"] == "model"
        assert found["facts"]["model_type"] == "distilbert"
        assert (found["facts"]["tensors"], found["facts"]["parameters"]) == (2, 17)
        assert found["facts"]["files"] == sorted(name for name, _ in files)
        recipe = preset("distillBert", "demo", uploads.resolve(service, {"teacher": {"model": found["file_path"]}}))
        folder = Path(recipe.teacher.model)
        assert {f.name: f.read_bytes() for f in folder.iterdir()} == dict(files)


@pytest.mark.slow
def test_a_handed_in_model_really_teaches(client, service, tmp_path):
    import tiny
    from lessen import models

    tiny.save("distilbert", tmp_path / "mine")
    files = [(f.name, f.read_bytes()) for f in sorted((tmp_path / "mine").iterdir())]
    found = put(client, *files).json()
    given = uploads.resolve(service, {"teacher.model": found["file_path"], "data.limit": 20, "data.max_length": 32})
    recipe = preset("distillBert", "demo", given)
    splits = data.load(recipe.data, recipe.task, 0)
    model = models.fetch(recipe.teacher, splits, recipe.data, recipe.task, 0)
    assert model.facts["source"] == str(recipe.teacher.model)


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "name",
    ["model.pt", "model.PTH", "pytorch_model.bin", "b.safetensors", "x.pkl", "x.ckpt", "x.json", "x.zip", "x.npy"],
)
def test_no_pickle_is_read_whatever_it_is_called(client, tmp_path, name, protocol):
    touched = tmp_path / "touched"
    canary = pickle.dumps(Canary(touched), protocol)
    for files in (
        [(name, canary)],
        [("config.json", CONFIG), (name, canary)],
        [("config.json", CONFIG), ("model.safetensors", canary)],
    ):
        answer = put(client, *files)
        assert answer.status_code in (415, 422), answer.text
        assert answer.json()["success"] is False
    inside = put(
        client, ("model.zip", zipped([("config.json", CONFIG), ("model.safetensors", WEIGHTS), (name, canary)]))
    )
    assert inside.status_code == 422 or name == "x.json"  # beside a model, files that do not belong are left out
    if inside.status_code == 200:
        assert "x.json" not in inside.json()["facts"]["files"]
        client.delete(f"/api/v1/uploads/{inside.json()['upload_id']}")
    assert not touched.exists()


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize(
    "files",
    [
        [("model.safetensors", WEIGHTS)],
        [("config.json", CONFIG)],
        [("config.json", b"{}"), ("model.safetensors", WEIGHTS)],
        [("config.json", b"[" * 100_000), ("model.safetensors", WEIGHTS)],
        [("config.json", CONFIG), ("model.safetensors", WEIGHTS[:-1])],
        [("config.json", CONFIG), ("model.safetensors", WEIGHTS), ("tokenizer.json", b"\x80\x04.")],
        [("config.json", CONFIG), ("model.safetensors", WEIGHTS), ("spiece.model", b"PK\x03\x04")],
        [("config.json", CONFIG), ("model.safetensors", WEIGHTS), ("config.json", CONFIG)],
    ],
)
def test_half_a_model_is_refused(client, files):
    answer = put(client, *files)
    assert answer.status_code == 422, answer.text
    assert answer.json()["hint"]


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("name", ["photo.png", "x.exe", "x.xlsx", "noending", "x.tar.gz", "x.py", ".csv.sh"])
def test_other_kinds_are_refused_by_name_with_what_is_taken(client, name):
    answer = put(client, (name, b"something"))
    assert answer.status_code == 415
    assert "CSV" in answer.json()["hint"]


@pytest.mark.usefixtures("nothing_stays")
def test_forms_that_are_none(client):
    assert client.post("/upload", files=[("other", ("a.csv", CSV))]).status_code == 400
    assert client.post("/upload", data={"file": "text"}).status_code == 415
    assert client.post("/upload", content=b"x", headers={"content-type": "multipart/form-data"}).status_code == 415
    cut = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\n\r\ntext,label\na,b\n'
    for body in (b"", b"no boundary here", cut, cut + b"\r\n--b"):
        answer = client.post("/upload", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
        assert answer.status_code == 400, body
        assert answer.json()["success"] is False
    assert put(client, *[(f"{i}.safetensors", WEIGHTS) for i in range(9)]).status_code == 413
    missing = client.post("/upload", files=[("file", ("", b""))])
    assert missing.status_code == 400


def test_more_than_is_allowed_is_refused_told_or_not(client_of):
    client = client_of(max_upload_bytes=100_000)
    many = b"text,label\n" + b"some words,x\n" * 90_000
    assert put(client, ("a.csv", many)).status_code == 413
    body = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + many + b"\r\n--b--\r\n"
    chunks = (body[i : i + 50_000] for i in range(0, len(body), 50_000))  # no Content-Length
    answer = client.post("/upload", content=chunks, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413
    assert list(uploads.folder(client.app.state.service).iterdir()) == []


@pytest.mark.usefixtures("nothing_stays")
def test_a_third_upload_waits(client, monkeypatch):
    held = [uploads.SLOTS.acquire(blocking=False) for _ in range(uploads.AT_ONCE)]
    try:
        answer = put(client, ("a.csv", CSV))
    finally:
        for _ in filter(None, held):
            uploads.SLOTS.release()
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    found = put(client, ("a.csv", CSV)).json()
    assert client.delete(f"/api/v1/uploads/{found['upload_id']}").status_code == 200


def test_uploads_are_listed_shown_and_removed(client, service):
    first, second = (put(client, ("a.csv", CSV), path="/api/v1/uploads") for _ in range(2))
    assert first.status_code == 201
    ids = [answer.json()["upload_id"] for answer in (first, second)]
    assert {one["upload_id"] for one in client.get("/api/v1/uploads").json()["uploads"]} == set(ids)
    shown = client.get(f"/api/v1/uploads/upload:{ids[0]}").json()
    assert shown["upload_id"] == ids[0]
    assert shown["expires"] > shown["created"]
    assert client.delete(f"/api/v1/uploads/{ids[0]}").status_code == 200
    assert client.get(f"/api/v1/uploads/{ids[0]}").status_code == 404
    assert [p.name for p in uploads.folder(service).iterdir()] == [ids[1]]


def test_old_uploads_go_and_those_in_use_stay(client, service):
    old, used = (put(client, ("a.csv", CSV)).json()["upload_id"] for _ in range(2))
    started = client.post("/train", json={"model_name": "distillBert", "data.path": f"upload:{used}"})
    assert started.status_code == 200, started.text
    assert uploads.sweep(service) == []
    assert client.delete(f"/api/v1/uploads/{used}").status_code == 409
    later = time.time() + 31 * 86_400
    assert uploads.sweep(service, later) == [old]
    assert [p.name for p in uploads.folder(service).iterdir()] == [used]
    client.post("/cancel_training")
    assert uploads.sweep(service, later) == [used]


def test_leavings_of_a_server_that_died_are_swept(client, service):
    (uploads.folder(service) / "0123456789abcdef.part").mkdir()
    (uploads.folder(service) / "fedcba9876543210").mkdir()  # renamed, and never made known
    assert uploads.sweep(service) == []
    assert len(list(uploads.folder(service).iterdir())) == 2  # somebody may be at it
    uploads.sweep(service, time.time() + 7200)
    assert list(uploads.folder(service).iterdir()) == []


@pytest.mark.parametrize(
    ("place", "kind", "hint"),
    [
        ({"teacher.model": "upload:{table}"}, 422, "takes a model"),
        ({"data": {"path": "upload:{model}"}}, 422, "takes data"),
        ({"name": "upload:{table}"}, 422, "an upload may be"),
        ({"prune": {"method": "upload:{table}"}}, 422, "an upload may be"),
        ({"data": {"labels": ["upload:{table}"]}}, 422, "an upload may be"),
        ({"data.path": "upload:ffffffffffffffff"}, 404, "hand it in again"),
        ({"data.path": "upload:../../../etc/passwd"}, 404, "hand it in again"),
    ],
)
def test_an_upload_stands_only_where_it_fits(client, place, kind, hint):
    table = put(client, ("a.csv", CSV)).json()["upload_id"]
    model = put(client, ("config.json", CONFIG), ("model.safetensors", WEIGHTS)).json()["upload_id"]
    text = json.dumps(place).replace("{table}", table).replace("{model}", model)
    answer = client.post("/train", json={"model_name": "distillBert", **json.loads(text)})
    assert answer.status_code == kind, answer.text
    assert hint in answer.json()["hint"]


@pytest.mark.slow
def test_a_large_upload_stays_out_of_memory(server, tmp_path):
    import threading

    import psutil
    import requests

    size = 400 << 20
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()

    def body():
        start = b'--b\r\ncontent-disposition: form-data; name="file"; filename="%s"\r\n\r\n'
        yield start % b"config.json" + CONFIG + b"\r\n" + start % b"model.safetensors"
        yield len(header).to_bytes(8, "little") + header
        for _ in range(size >> 20):
            yield bytes(1 << 20)
        yield b"\r\n--b--\r\n"

    process = psutil.Process(server.process.pid)
    assert server.post("/upload", files={"file": ("a.csv", CSV)}).ok  # imports come with the first one
    before, most, done = process.memory_info().rss, [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    headers = server.headers | {"content-type": "multipart/form-data; boundary=b"}
    answer = requests.post(f"{server.url}/upload", headers=headers, data=body(), timeout=300)
    done.set()
    watcher.join()
    assert answer.status_code == 200, answer.text
    assert answer.json()["facts"]["parameters"] == size
    assert most[0] - before < 64 << 20
    assert server.request("DELETE", f"/api/v1/uploads/{answer.json()['upload_id']}").ok
