"""Where lessen.Client sends the token, and how long `watch` waits for a server; against small servers of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import lessen.client
from lessen.client import Client, ServerError
from lessen.errors import AuthError, ConflictError, QueueFullError, RecipeError

FILE_TOKEN = "F" * 43
GIVEN = "G" * 43
ELSEWHERE = "0.0.0.0"  # this machine too, by a name that is not loopback's
RUN = {"run_id": "r", "state": "running", "name": "r"}
Answer = tuple[int, dict[str, str], Any]


class Server(ThreadingHTTPServer):
    """Answers every request with what a function says, and keeps what was asked."""

    daemon_threads = True

    def __init__(self, answer: Callable[[str], Answer | None], port: int = 0) -> None:
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", port), handler(self.asked, answer))

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave."""


def handler(asked: list[tuple[str, str | None]], answer: Callable[[str], Answer | None]) -> type:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = answer(self.path)
            if found is None:  # the connection breaks
                self.close_connection = True
                return
            status, headers, body = found
            raw = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def answering(answer: Callable[[str], Answer | None], port: int = 0) -> Iterator[Server]:
    with Server(answer, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def runs(path: str) -> Answer:
    return 200, {}, {"runs": [RUN]} if "/api/v1/runs?" in path else RUN


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token file that is safe, and nothing else."""
    file = tmp_path / "token"
    file.write_text(FILE_TOKEN)
    file.chmod(0o600)
    monkeypatch.setenv("LESSEN_TOKEN_FILE", str(file))
    for name in ("LESSEN_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_the_token_file_is_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(runs) as server:
        Client(server.url).runs()
        Client(f"http://localhost:{server.port}/").runs()
        Client(server.url.replace("127.0.0.1", ELSEWHERE)).runs()
        assert [token for _, token in server.asked] == [f"Bearer {FILE_TOKEN}", f"Bearer {FILE_TOKEN}", None]
        Client(server.url.replace("127.0.0.1", ELSEWHERE), token=GIVEN).runs()
        monkeypatch.setenv("LESSEN_TOKEN", GIVEN)
        Client(server.url.replace("127.0.0.1", ELSEWHERE)).runs()
        Client(server.url).runs()
        assert [token for _, token in server.asked][3:] == [f"Bearer {GIVEN}"] * 3


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.example.org", "10.0.0.7", "127.1"])
def test_a_file_that_others_can_read_matters_on_this_machine_alone(host: str, tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o644)
    Client(f"http://{host}:5001")  # is not looked at
    for here in ("127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "[::1]"):
        with pytest.raises(AuthError, match="others may read"):
            Client(f"http://{here}:5001")


def test_without_a_token_it_is_said_where_one_comes_from() -> None:
    with answering(lambda _: (401, {}, {"detail": "no token", "hint": "send it"})) as server:
        with pytest.raises(AuthError, match=r"none was sent.*LESSEN_TOKEN.*this machine alone"):
            Client(server.url.replace("127.0.0.1", ELSEWHERE)).runs()
        with pytest.raises(AuthError, match="no token; send it"):
            Client(server.url).runs()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_goes_along_no_redirect(status: int, tmp_path: Path) -> None:
    with (
        answering(runs) as other,
        answering(lambda path: (status, {"Location": other.url + path}, {})) as server,
    ):
        for client in (Client(server.url), Client(server.url, token=GIVEN)):
            for ask in (client.runs, lambda c=client: c.start("T5-small"), lambda c=client: c.download("r", tmp_path)):
                with pytest.raises(ServerError, match=rf"sends on to 'http://127.0.0.1:{other.port}/api/v1"):
                    ask()
        assert len(server.asked) == 6
        assert other.asked == []


def test_proxies_are_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(runs) as proxy, answering(runs) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        Client(server.url).runs()
        Client(f"http://localhost:{server.port}").runs()
        assert (len(server.asked), proxy.asked) == (2, [])
        Client("http://lessen.invalid:5001", token=GIVEN).runs()
        assert proxy.asked == [("http://lessen.invalid:5001/api/v1/runs?limit=50&search=", f"Bearer {GIVEN}")]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1", "file:///etc/passwd", "127.0.0.1:5001", "http://", "http://:5001", "http://127.0.0.1:x",
        "http://127.0.0.1@example.org", "http://a:b@127.0.0.1:5001", "http://[::1", "http://example.org\\@127.0.0.1",
        "http://127.0.0.1\\.example.org", "http://127.0.0.1:5001?x=1", "http://example.org#@127.0.0.1",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="address of a server"):
        Client(url)


def test_a_full_queue_is_a_conflict_of_exit_code_6() -> None:
    told = {"type": "urn:lessen:queue-full", "detail": "20 runs are waiting already", "hint": "wait"}
    with answering(lambda _: (429, {"Retry-After": "60"}, told)) as server:
        with pytest.raises(QueueFullError, match="20 runs are waiting already; wait") as error:
            Client(server.url).start("T5-small")
        assert isinstance(error.value, ConflictError)
        assert error.value.exit_code == 6


# watch


class Story:
    """Ten events of a run, two to a page, and a clock that only moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.failures: dict[int, int] = {}  # asked for what comes after an event -> how often the connection breaks
        self.held = 0.0  # seconds that a question stays open before it breaks

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def answer(self, path: str) -> Answer | None:
        if not path.startswith("/api/v1/runs/r/events?"):
            return 200, {}, RUN
        after = int(parse_qs(urlsplit(path).query)["after"][0])
        if self.failures.get(after, 0) > 0:
            self.failures[after] -= 1
            self.now, self.held = self.now + self.held, 0.0
            return None
        events = [{"seq": seq} for seq in range(after + 1, min(after + 3, 11))]
        return 200, {}, {"events": events, "state": "running" if after < 8 else "succeeded"}


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    found = Story()
    monkeypatch.setattr(lessen.client, "time", found)
    return found


def seen(client: Client) -> Iterator[int]:
    """Yield the numbers of the events, of 30 at most."""
    return (event["seq"] for event in islice(client.watch("r"), 30))


def test_patience_begins_when_the_server_goes_away_not_with_its_last_answer(story: Story) -> None:
    story.failures, story.held = {4: 50}, 20.0  # a question open for 20 s, then 25 s without a server
    with answering(story.answer) as server:
        assert list(seen(Client(server.url))) == list(range(1, 11))


def test_patience_does_not_run_while_the_caller_thinks(story: Story) -> None:
    story.failures = {4: 1, 8: 1}
    found = []
    with answering(story.answer) as server:
        for seq in seen(Client(server.url)):
            found.append(seq)
            story.now += 100
    assert found == list(range(1, 11))


def test_patience_is_given_anew_after_every_answer_and_ends(story: Story) -> None:
    story.failures = {2: 50, 4: 50, 6: 10_000}
    found: list[int] = []
    began = story.now
    with answering(story.answer) as server:
        events = seen(Client(server.url))
        found += [next(events) for _ in range(6)]
        with pytest.raises(ServerError, match="no server answers"):
            next(events)
    assert found == list(range(1, 7))
    assert 80 < story.now - began < 82  # 25 + 25 + 30 and the pauses


def test_a_server_that_is_stopped_and_started_again_loses_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessen.client, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(lessen.client, "RETRY_SECONDS", 0.01)
    gone, story = threading.Event(), Story()

    def until_event_4(path: str) -> Answer | None:
        if "after=4" not in path:
            return story.answer(path)
        gone.set()
        return None

    found: list[int] = []
    with answering(until_event_4) as server:
        port = server.port
        client = Client(server.url)
        watching = threading.Thread(target=lambda: found.extend(seen(client)), daemon=True)
        watching.start()
        assert gone.wait(10)
    with answering(story.answer, port) as again:
        watching.join(10)
        assert not watching.is_alive()
        asked = [int(parse_qs(urlsplit(path).query)["after"][0]) for path, _ in again.asked]
    assert found == list(range(1, 11))
    assert asked[0] == 4
    assert all(a <= b for a, b in pairwise(asked))
