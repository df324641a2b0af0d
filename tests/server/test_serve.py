"""`lessen serve`: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from lessen import token
from lessen.cli import main
from served import Running, eventually, serving


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["serve", *words])
    return code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def _own_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESSEN_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.delenv("LESSEN_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "127.evil"])
def test_without_a_token_only_this_machine_is_served(capsys: pytest.CaptureFixture[str], host: str) -> None:
    code, said = refused(capsys, "--no-auth", "--host", host, "--port", "0")
    assert code == 2
    assert "--no-auth" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--port", "70000"], 2), (["--port", "-1"], 2), (["--host", "192.0.2.1"], 2), (["--allow-host", "http://x"],
        2),
        (["--host", "no such host"], 2), (["--prot", "1"], 2),
    ],
)  # fmt: skip
def test_flags_that_cannot_be_meant(capsys: pytest.CaptureFixture[str], words: list[str], code: int) -> None:
    found, said = refused(capsys, *words)
    assert found == code
    assert said.startswith("error: ")
    assert "Traceback" not in said


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = refused(capsys, "--port", str(taken.getsockname()[1]))
    assert code == 6
    assert "in use" in said
    assert "--port" in said


def test_the_help_of_serve_is_light() -> None:
    code = (
        "import sys\nfrom lessen.cli import main\nmain(['serve', '--help'])\n"
        "print('IMPORTED', *sorted({'fastapi', 'uvicorn', 'pydantic', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "IMPORTED"
    assert "--rotate-token" in done.stdout


def test_it_says_where_it_is_and_lets_one_in(server: Running) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    assert (server.root / ".lessen" / "store.sqlite").is_file()
    assert requests.get(f"{server.url}/test", timeout=10).json()["status"] == "Server is running"
    with requests.Session() as browser:
        page = browser.get(server.login_url, timeout=10)
        assert page.url == f"{server.url}/"
        assert browser.get(f"{server.url}/api/v1/system", timeout=10).json()["auth"] is True
    said = server.log.read_text()
    for part in (server.url, str(server.root), "store.sqlite", "--no-auth"):
        assert part in said


def test_the_socket_is_bound_to_this_machine_alone(server: Running) -> None:
    others = [found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in {a for a in others if not a.startswith("127.")}:
        with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
            socket.create_connection((address, server.port), timeout=2).close()


@pytest.mark.slow
def test_another_server_on_the_same_root_is_refused(server: Running, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lessen", "serve", "--port", "0", "--runs", str(server.root), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 6
    assert str(server.process.pid) in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 6
    assert server.get("/api/v1/runs").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order_and_starts_again(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as server:
        server.process.send_signal(number)
        began = time.monotonic()
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 10
        assert "stopped" in server.log.read_text()
        assert "Traceback" not in server.log.read_text()
        former = server.token
    with serving(tmp_path) as server:
        assert server.token == former
        assert server.get("/api/v1/runs").status_code == 200


@pytest.mark.slow
def test_no_auth_opens_everything_but_keeps_the_guards(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-auth") as server:
        assert requests.get(f"{server.url}/api/v1/runs", timeout=10).status_code == 200
        assert requests.post(f"{server.url}/cancel_training", timeout=10).status_code in (200, 404, 409)
        assert requests.get(f"{server.url}/test", headers={"Host": "evil.example"}, timeout=10).status_code == 421
        evil = {"Origin": "http://evil.example"}
        assert requests.post(f"{server.url}/train", json={}, headers=evil, timeout=10).status_code == 403
        assert not (tmp_path / "token").exists()


@pytest.mark.slow
def test_other_names_and_a_new_token(tmp_path: Path) -> None:
    former = token.make(tmp_path / "token")
    with serving(tmp_path, "--rotate-token", "--allow-host", "lab.example", "--host", "::1") as server:
        assert server.token != former
        assert server.url.startswith("http://[::1]:")
        for host, status in (
            ("lab.example", 200),
            (f"lab.example:{server.port}", 200),
            ("[::1]", 200),
            ("other.example", 421),
        ):
            assert requests.get(f"{server.url}/test", headers={"Host": host}, timeout=10).status_code == status
        assert server.get("/api/v1/runs", headers={"Origin": "https://lab.example"}).status_code == 200


TINY = {
    "name": "long", "pipeline": "baseline", "data": {"source": "pydocs", "limit": 60},
    "teacher": {"train": {"epochs": 400}},
}  # fmt: skip


@pytest.mark.slow
def test_a_running_run_is_interrupted_and_can_go_on(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        answer = server.post("/api/v1/runs", json={"recipe": TINY})
        assert answer.status_code == 202, answer.text
        run_id = answer.json()["run_id"]
        eventually(lambda: server.get(f"/api/v1/runs/{run_id}").json()["progress"]["step"], 120)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(40) == 0
        assert time.monotonic() - began < 30
    with serving(tmp_path) as server:
        run = server.get(f"/api/v1/runs/{run_id}").json()
        assert (run["state"], run["resumable"]) == ("interrupted", True)
        assert server.post(f"/api/v1/runs/{run_id}/resume").status_code == 202
        eventually(lambda: server.get(f"/api/v1/runs/{run_id}").json()["state"] == "running", 60)
        assert server.post(f"/api/v1/runs/{run_id}/cancel").status_code == 200
        eventually(lambda: server.get(f"/api/v1/runs/{run_id}").json()["state"] == "cancelled", 30)
