"""Artifacts, files and downloads: by id and name, and nothing else."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lessen.server.service import Service
from lessen.server.zipped import Entry, zipped
from lessen.store import RunRecord

V1 = "/api/v1"
OUT = (
    "../report.json", "..%2freport.json", "%2e%2e/report.json", "%2e%2e%2freport.json", "%2e%2e%2f%2e%2e%2frun.json",
    "....//run.json", "..\\run.json", "..%5crun.json", "C:\\Windows\\win.ini", "C:/Windows/win.ini", "/etc/passwd",
    "%2fetc%2fpasswd", "//etc/passwd", "model.onnx%00.json", "%00", "%2e/model.onnx", "a%2f..%2fmodel.onnx",
    "~/.ssh/id_rsa",
    "file:///etc/passwd", "model.onnx/", "%2e", "%2e%2e%2f", "link.json", "sub/link.json", "lessen.json/..",
    "%252e%252e%252frun.json",
)  # fmt: skip
pytestmark = pytest.mark.slow


def test_artifacts_are_listed_with_their_digests(client: TestClient, run: RunRecord) -> None:
    found = client.get(f"{V1}/runs/latest/artifacts").json()
    assert [a["stage"] for a in found] == ["teacher", "runtime", "distill", "prune", "export", "quantize"]
    assert {a["runtime"] for a in found} == {"eager", "onnx"}
    for artifact in found:
        folder = run.folder / artifact["path"]
        assert artifact["bytes"] == sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        for file in artifact["files"]:
            raw = client.get(f"{V1}/runs/latest/artifacts/{artifact['stage']}/{file['name']}").content
            assert len(raw) == file["bytes"]
            assert file["sha256"] in (None, hashlib.sha256(raw).hexdigest())


@pytest.mark.parametrize("name", OUT)
def test_nothing_outside_of_what_is_listed_is_sent(client: TestClient, run: RunRecord, name: str) -> None:
    for path in (f"artifacts/quantize/{name}", f"files/{name}", f"artifacts/{name}/config.json"):
        answer = client.get(f"{V1}/runs/latest/{path}")
        assert answer.status_code in (307, 404), (path, answer.text)
        assert b"root:" not in answer.content
    assert client.get(f"{V1}/runs/{name}/report").status_code in (307, 404)


def test_a_link_that_leads_out_is_not_followed(client: TestClient, run: RunRecord, service: Service) -> None:
    secret = service.store.root.parent / "secret.json"
    secret.write_text("{}")
    folder = run.folder / "stages" / "05-quantize"
    outside = service.store.root.parent / "other"
    shutil.copytree(folder, outside)
    manifest = json.loads((folder / "lessen.json").read_text())
    try:
        (folder / "leak.json").symlink_to(secret)
        (run.folder / "results_leak.json").symlink_to(secret)
        (run.folder / "stages" / "06-away").symlink_to(outside, target_is_directory=True)
        listed = manifest | {"files": {**manifest["files"], "leak.json": "0" * 64, "../../../run.json": "0" * 64}}
        (folder / "lessen.json").write_text(json.dumps(listed))
        for path in ("artifacts/quantize/leak.json", "files/results_leak.json", "artifacts/away/model.onnx",
                     "artifacts/quantize/../../../run.json", "artifacts/quantize/..%2f..%2f..%2frun.json"):  # fmt: skip
            assert client.get(f"{V1}/runs/latest/{path}").status_code == 404
        assert "away" not in {a["stage"] for a in client.get(f"{V1}/runs/latest/artifacts").json()}
    finally:
        (folder / "lessen.json").write_text(json.dumps(manifest))
        for link in (folder / "leak.json", run.folder / "results_leak.json", run.folder / "stages" / "06-away"):
            link.unlink()
        shutil.rmtree(outside)


def test_files_of_a_run_are_those_on_the_list(client: TestClient, run: RunRecord) -> None:
    for name in ("report.json", "report.html", "recipe.json", "predictions.json", "events.jsonl", "results_tidy.csv"):
        answer = client.get(f"{V1}/runs/latest/files/{name}")
        assert answer.content == (run.folder / name).read_bytes()
        assert "attachment" in answer.headers["content-disposition"]
        assert "html" not in answer.headers["content-type"]
    for name in ("run.json", ".lock", "worker.log", "stages", "final", "predictions.json.bak"):
        assert client.get(f"{V1}/runs/latest/files/{name}").status_code == 404
    rows = list(csv.DictReader(io.StringIO(client.get(f"{V1}/runs/latest/files/results_final.csv").text)))
    assert rows[0]["stage"] == "baseline"


def test_the_report_is_sent_as_it_is_and_its_page_cannot_run_scripts(client: TestClient, run: RunRecord) -> None:
    assert client.get(f"{V1}/runs/latest/report").json() == json.loads((run.folder / "report.json").read_text())
    page = client.get(f"{V1}/runs/latest/report.html")
    assert page.text == (run.folder / "report.html").read_text(encoding="utf-8")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy


@pytest.mark.parametrize("every", [False, True])
def test_the_zip_holds_the_model_that_ships_with_its_report(client: TestClient, run: RunRecord, every: bool) -> None:
    answer = client.get(f"{V1}/runs/latest/download?all={every}")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read("report.json") == (run.folder / "report.json").read_bytes()
        model = (run.folder / "final").resolve() / "model.onnx"
        assert archive.read("quantize/model.onnx") == model.read_bytes()
    stages = {name.split("/")[0] for name in names if "/" in name}
    assert stages == ({"teacher", "runtime", "distill", "prune", "export", "quantize"} if every else {"quantize"})
    assert not [name for name in names if name.startswith(("/", ".")) or ".." in name]


def test_a_zip_is_made_in_pieces(tmp_path: Path) -> None:
    big = tmp_path / "model.safetensors"
    size = 64 << 20
    with big.open("wb") as stream:
        stream.truncate(size)
    tracemalloc.start()
    largest, total, out = 0, 0, tmp_path / "out.zip"
    with out.open("wb") as target:
        for chunk in zipped([Entry(big, "model.safetensors"), Entry(Path(__file__), "a.py")]):
            largest, total = max(largest, len(chunk)), total + len(chunk)
            target.write(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > size
    assert largest < 2 << 20
    assert peak < 8 << 20
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("model.safetensors").file_size == size
        assert archive.read("a.py") == Path(__file__).read_bytes()
