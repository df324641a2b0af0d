"""The machine, presets, recipes, and what stands in Prometheus' text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from lessen import __version__
from lessen.recipe import parse
from lessen.server.service import Service

from .conftest import TINY, client_of, service_at

V1 = "/api/v1"
pytestmark = pytest.mark.slow


def test_the_system_is_described_with_units(client: TestClient, service: Service) -> None:
    found = client.get(f"{V1}/system").json()
    assert found["version"] == __version__
    assert found["versions"]["torch"]
    root = Path(service.store.root)
    assert found["root"] == str(root)
    on_disk = sum(f.stat().st_size for f in (root / "tiny").rglob("*") if f.is_file() and "final" not in f.parts)
    assert found["disk"]["runs_bytes"] >= on_disk
    assert 0 < found["disk"]["free_bytes"] <= found["disk"]["total_bytes"]
    assert found["memory"]["server_rss_bytes"] > 1e6
    assert found["devices"][0]["kind"] == "cpu"
    assert found["runs"]["succeeded"] == 1
    assert found["queue"] == []
    assert found["auth"] is True


def test_versions_and_metrics_have_no_prefix_too(client: TestClient) -> None:
    assert client.get("/version").json() == client.get(f"{V1}/version").json()
    assert client.get("/metrics").status_code == 200


def test_metrics_are_in_the_text_format_of_prometheus(client: TestClient) -> None:
    answer = client.get(f"{V1}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    known: set[str] = set()
    values: dict[str, float] = {}
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            known.add(line.split()[2])
            continue
        if line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"\})? (-?[0-9.e+]+)', line)
        assert match, line
        assert match.group(1) in known
        values[f"{match.group(1)}{match.group(2) or ''}"] = float(match.group(3))
    assert values['lessen_runs{state="succeeded"}'] == 1
    assert values["lessen_queue_length"] == 0
    assert values["lessen_process_resident_memory_bytes"] > 1e6
    assert values["lessen_uptime_seconds"] > 0


def test_the_token_is_rotated_for_everybody(tmp_path: Path) -> None:
    service = service_at(tmp_path / "runs")
    try:
        before = service.auth.file.read_text().strip()
        found = client_of(service).post(f"{V1}/token/rotate").json()
        assert found["token"] == service.auth.file.read_text().strip() != before
        assert service.auth.matches(found["token"])
        assert not service.auth.matches(before)
    finally:
        service.end()


def test_every_level_of_every_preset_is_a_recipe_that_can_be_run(client: TestClient) -> None:
    found = client.get(f"{V1}/presets").json()
    assert [p["model_name"] for p in found] == ["distillBert", "T5-small", "MobileNetV2", "ResNet-18"]
    for preset in found:
        assert list(preset["levels"]) == ["demo", "balanced", "thorough"]
        for level in preset["levels"].values():
            assert parse(level["recipe"]).task == preset["task"]
            assert level["note"]


def test_packaged_recipes_come_as_values_and_as_they_are(client: TestClient) -> None:
    found = {r["name"]: r for r in client.get(f"{V1}/recipes").json()}
    assert {"docstrings", "digits", "sst2"} <= set(found)
    for recipe in found.values():
        assert parse(recipe["recipe"]) == parse(yaml.safe_load(recipe["yaml"]))
        assert recipe["description"]


def test_the_schema_says_ranges_defaults_and_help(client: TestClient) -> None:
    schema = client.get(f"{V1}/recipes/schema").json()
    prune = schema["$defs"]["Prune"]["properties"]["remove_frac"]
    assert (prune["minimum"], prune["exclusiveMaximum"], prune["default"]) == (0, 1, 0.5)
    assert prune["description"]


def test_a_request_is_resolved_planned_and_said_again(client: TestClient) -> None:
    body = {"recipe": {**TINY, "name": "it's"[:2]}, "name": "mine"}
    found = client.post(f"{V1}/recipes/check", json=body).json()
    assert found["recipe"]["name"] == "mine"
    assert parse(yaml.safe_load(found["yaml"])) == parse({**TINY, "name": "mine"})
    assert [s["name"] for s in found["plan"]["stages"]] == [
        "teacher", "runtime", "distill", "prune", "export", "quantize",
    ]  # fmt: skip
    assert found["plan"]["teacher_parameters"]["value"] > found["plan"]["student_parameters"]["value"] > 0
    assert found["plan"]["rows"]["value"] == 168
    assert found["warnings"] == found["plan"]["warnings"] == []
    assert client.get(f"{V1}/runs?state=queued").json()["total"] == 0


def test_the_curl_line_sends_what_was_asked(client: TestClient, tmp_path: Path) -> None:
    body = {"model_name": "t5small", "recipe": {"author": 'it\'s "me" & $HOME; `id`', "seed": 3}}
    line = client.post(f"{V1}/recipes/check", json={**body, "plan": False}).json()["curl"]
    said = tmp_path / "said.json"
    fake = tmp_path / "curl"
    fake.write_text(f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv, open({str(said)!r}, 'w'))\n")
    fake.chmod(0o755)
    home = tmp_path / "home" / ".config" / "lessen"
    home.mkdir(parents=True)
    (home / "token").write_text("secret")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path / "home")}
    subprocess.run(["/bin/sh", "-c", line], env=environment, check=True)
    sent = json.loads(said.read_text())
    assert json.loads(sent[sent.index("-d") + 1]) == body
    assert "Authorization: Bearer secret" in sent
    assert any(part.endswith(f"{V1}/runs") for part in sent)


def test_data_that_is_not_there_is_a_warning_of_the_check(client: TestClient) -> None:
    body = {"model_name": "distillbert", "recipe": {"data": {"path": "nowhere.csv"}}}
    found = client.post(f"{V1}/recipes/check", json=body).json()
    assert found["plan"] is None or found["plan"]["rows"]["value"] is None
    assert found["recipe"]["data"]["path"] == "nowhere.csv"
    assert any("nowhere.csv" in text for text in [*found["warnings"], str(found["plan"])])


@pytest.mark.parametrize(
    "body", [{}, {"recipe": {"prune": {"remove_frac": 1}}}, {"model_name": "x"}, {"recipe": {"task": "nothing"}}]
)
def test_settings_that_are_refused_name_their_path(client: TestClient, body: dict[str, object]) -> None:
    answer = client.post(f"{V1}/recipes/check", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_the_server_side_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import lessen.server.v1, sys\n"
        "print('IMPORTED', *sorted({'torch', 'transformers', 'onnxruntime', 'onnx', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1].strip() == "IMPORTED"
