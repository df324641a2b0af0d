"""One run's events on their way to the clients: live in order, replayed from the store without loss or doubling.

A subscription knows the last seq that it sent. It reads the store from there until a page comes back short and the
live stream has nothing newer than that seq: at this moment, between two turns of the event loop, it goes live. Later
events at or below the seq are skipped, and a gap, or a client who cannot keep up, sends it back to the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lessen.server.outbox import Message, Outbox
from lessen.server.translate import Translator, translator_of
from lessen.store import Store

log = logging.getLogger("lessen.server")
PAGE = 200  # lines a read
PRELOAD = 2000
WITH_REPORT = ("RunFinished", "RunStateChanged")  # whose translation reads report.json
DROPPABLE = frozenset({"training_progress", "backend_log"})  # of the predecessors' events


@dataclass(eq=False)
class Subscription:
    """What a client has of a run, and what it wants."""

    last: int  # seq of the newest line that was put into the outbox
    predecessor: bool = False  # the predecessors' events too
    replaying: bool = True
    translator: Translator | None = None


@dataclass(eq=False)
class Client:
    """A connected client."""

    sid: str
    eio_sid: str
    credential: str
    generation: int  # of the token that let it in
    outbox: Outbox
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class Clients(Protocol):
    """Who listens."""

    def values(self) -> Iterable[Client]:
        """Return the connected clients."""
        ...


class Feed:
    """The stream of one run. All methods are called in the event loop."""

    def __init__(self, run_id: str, store: Store, clients: Clients, spawn: Callable[[Any], None]) -> None:
        self.run_id = run_id
        self._store, self._clients, self._spawn = store, clients, spawn
        self._translator = translator_of(store, run_id)
        self._pending: deque[dict[str, Any]] = deque()
        self._busy = False
        self.last = 0  # seq of the newest line that went out live

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nobody listens."""
        return not self._busy and not any(self.run_id in c.subscriptions for c in self._clients.values())

    def push(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take in new lines, which the store has already."""
        self._pending.extend(lines)
        if not self._busy:
            self._busy = True
            self._spawn(self._drain())

    async def _drain(self) -> None:
        try:
            while self._pending:
                line = self._pending.popleft()
                seq = int(line["seq"])
                if seq <= self.last:
                    continue
                if seq > self.last + 1:  # from before this server's start: known to the store alone
                    await asyncio.to_thread(_absorb, self._store, self.run_id, self._translator, self.last, seq)
                if line["kind"] in WITH_REPORT:
                    told = await asyncio.to_thread(translated, self._translator, line)
                else:
                    told = translated(self._translator, line)
                self.last = seq
                self._deliver(seq, event_of(self.run_id, line), told)
        finally:
            self._busy = False

    def _deliver(self, seq: int, event: Message, told: Sequence[Message]) -> None:
        for client in list(self._clients.values()):
            subscription = client.subscriptions.get(self.run_id)
            if subscription is not None:
                self._offer(client, subscription, seq, event, told)
            elif not client.subscriptions:  # a client of the predecessors, who know no subscriptions
                for message in told:
                    client.outbox.push(message)

    def _offer(
        self, client: Client, subscription: Subscription, seq: int, event: Message, told: Sequence[Message]
    ) -> None:
        if subscription.replaying or seq <= subscription.last:
            return
        if seq > subscription.last + 1 or client.outbox.congested:
            subscription.replaying = True
            self._spawn(self.replay(client, subscription))
            return
        client.outbox.push(event)
        for message in told if subscription.predecessor else ():
            client.outbox.push(message)
        subscription.last = seq

    async def replay(self, client: Client, subscription: Subscription) -> int:
        """Send what the store has after the subscription's last seq, then go live; return how many lines that were."""
        sent = 0
        while client.subscriptions.get(self.run_id) is subscription and await client.outbox.short():
            page = await asyncio.to_thread(_page, self._store, self.run_id, subscription)
            if client.subscriptions.get(self.run_id) is not subscription:
                break
            for seq, messages in page:
                if not await client.outbox.short():
                    return sent
                for message in messages:
                    client.outbox.push(message)
                subscription.last, sent = seq, sent + 1
            if not page or (len(page) < PAGE and subscription.last >= self.last):
                subscription.replaying, subscription.translator = False, None
                break
        return sent


def event_of(run_id: str, line: dict[str, Any]) -> Message:
    """Return a stored line as it goes to those who subscribed."""
    return Message("run_event", {**line, "run_id": run_id})


def translated(translator: Translator, line: dict[str, Any], *, whole: bool = False) -> list[Message]:
    """Return a stored line as the predecessors' events; `whole`: none of them may be left out."""
    try:
        told = translator.feed(line)
    except Exception:  # one odd line must not silence a run
        log.exception("line %s of a run cannot be translated", line.get("seq"))
        return []
    return [Message(name, payload, keep=whole or name not in DROPPABLE) for name, payload in told]


def _page(store: Store, run_id: str, subscription: Subscription) -> list[tuple[int, list[Message]]]:
    """Return the next lines of the store as messages. Runs in a thread."""
    if subscription.predecessor and subscription.translator is None:
        subscription.translator = translator_of(store, run_id)
        _absorb(store, run_id, subscription.translator, 0, subscription.last + 1)
    out = []
    for line in store.events(run_id, after=subscription.last, limit=PAGE):
        messages = [event_of(run_id, line)]
        if subscription.translator is not None:
            messages += translated(subscription.translator, line, whole=True)
        out.append((int(line["seq"]), messages))
    return out


def _absorb(store: Store, run_id: str, translator: Translator, after: int, before: int) -> None:
    """Let a translator read the lines between two seqs; what it says of them was said before."""
    while lines := store.events(run_id, after=after, limit=PRELOAD):
        for line in lines:
            if line["seq"] >= before:
                return
            translated(translator, line)
        after = lines[-1]["seq"]
