"""What the dashboard takes in a browser: first paint, a list of 1,000 runs, 50 curves, and an event until it is drawn.

Chromium (headless, driven by Playwright) opens a real `lessen serve` on this machine, over loopback:

    python benchmarks/dashboard.py                     # writes benchmarks/dashboard.json
    python benchmarks/dashboard.py --minutes 1 --clients 5 --out try.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import requests
from playwright.sync_api import Page, sync_playwright
from serve_load import Training, judged, serving, spread, watch_many

from lessen.folder import prepare
from lessen.measure import environment
from lessen.recipe import parse
from lessen.store import RunRecord, Store

PROMISES = {
    "first_paint_ms": 1000.0, "runs_1000_ms": 300.0, "redraw_50_curves_ms": 100.0, "event_to_pixel_p99_ms": 250.0,
}  # fmt: skip
PAGES = ("runs", "start", "playground", "learn", "compare", "system")
TRIES = 7
PAINTED = """() => new Promise((done) => {
  const seen = performance.getEntriesByName("first-contentful-paint")[0];
  if (seen) return done(seen.startTime);
  new PerformanceObserver((list, me) => { me.disconnect(); done(list.getEntries()[0].startTime); })
    .observe({ type: "paint", buffered: true });
})"""
# From the click on the address to the frame in which the rows stand, in an application that is open already.
LISTED = """async () => {
  location.hash = "#/system";
  await new Promise((done) => setTimeout(done, 1000));
  const begun = performance.now();
  location.hash = "#/runs";
  while (document.querySelectorAll(".run-row").length < 100) await new Promise((done) => requestAnimationFrame(done));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - begun;
}"""
REDRAWN = """async ([lines, points, tries]) => {
  const { chartIn } = await import("/static/chart.js");
  const host = document.createElement("div");
  document.querySelector("main").replaceChildren(host);
  const chart = await chartIn(host, { title: "Loss", xLabel: "step", canSmooth: true, canLog: true });
  const line = (k, shift) => ({ key: `k${k}`, label: `run ${k}`, smooth: false,
    points: Array.from({ length: points }, (_, x) => [x, Math.sin(x / 50 + k + shift)]) });
  const took = [];
  for (let i = 0; i <= tries; i += 1) {
    const data = Array.from({ length: lines }, (_, k) => line(k, i / 10));
    await new Promise((done) => setTimeout(done, 300));
    const begun = performance.now();
    chart.set(data); // draws in the next frame, before whoever asks for that frame after it
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    took.push(performance.now() - begun);
  }
  return took.slice(1); // the first one makes the chart
}"""
# The page draws what it is handed within the next animation frame; two frames later it is on the screen.
WATCHED = """async (runId) => {
  const live = await import("/static/live.js");
  window.delays ??= [];
  const since = Date.now() + 500; // what was written before waited for this subscription, not for the server
  live.subscribe(runId, { after: 0, onEvents: (events) => {
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => {
      const shown = Date.now();
      for (const { ts } of events) if (ts * 1000 > since) window.delays.push(shown - ts * 1000);
    })));
  } });
}"""


@contextmanager
def opened(url: str, token: str) -> Iterator[Page]:
    """Open a fresh browser, logged in."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.request.post(f"{url}/login", data={"token": token})
        yield page
        browser.close()


def first_paints(url: str, token: str) -> dict[str, list[float]]:
    """Return the first contentful paints of pages in ms, each with an empty cache."""
    found: dict[str, list[float]] = {name: [] for name in PAGES}
    for _ in range(TRIES):
        for name in PAGES:
            with opened(url, token) as page:
                page.goto(f"{url}/#/{name}")
                found[name].append(page.evaluate(PAINTED))
    return found


def listed(folder: Path) -> list[float]:
    """Return the times until a list of 1,000 runs stands, in ms."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    root = folder / "runs"
    root.mkdir(parents=True)
    store = Store(root)
    for i in range(1000):
        recipe = parse({"name": f"run-{i}"})
        prepare(root / f"run-{i}", recipe, f"run-{i}", origin="cli")
        store.add(
            RunRecord(
                run_id=f"run-{i}", folder=root / f"run-{i}", name=f"run-{i}", task=recipe.task,
                pipeline=recipe.pipeline, state="failed", recipe=recipe.model_dump(mode="json"),
                created=(start + timedelta(minutes=i)).isoformat(), summary={"score": i / 1000, "complete": True},
            )
        )  # fmt: skip
    store.close()
    with serving(folder) as (_, url, token), opened(url, token) as page:
        page.goto(f"{url}/#/runs")
        page.wait_for_selector(".run-row")
        return [page.evaluate(LISTED) for _ in range(TRIES)]


def pixels(url: str, token: str, clients: int, minutes: float, model: str) -> dict[str, Any]:
    """Train, with clients listening, and return the delays from the writing of an event to its drawing."""
    context, halt = multiprocessing.get_context("spawn"), threading.Event()
    ended, out = context.Event(), context.Queue()
    address = url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
    crowd = context.Process(target=watch_many, args=(address, token, clients, ended, out))
    crowd.start()
    headers = {"Authorization": f"Bearer {token}"}
    training = Training(url, token, model, halt)
    with opened(url, token) as page:
        while requests.get(f"{url}/api/v1/system", headers=headers, timeout=60).json()["sockets"] < clients:
            time.sleep(1)
        training.start()
        followed: set[str] = set()
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until and training.is_alive():
            for run_id in set(training.runs) - followed:
                page.goto(f"{url}/#/run/{run_id}")  # the same document: what was measured stays
                page.wait_for_selector("main h1")
                page.evaluate(WATCHED, run_id)
                followed.add(run_id)
            page.wait_for_timeout(500)
        delays = page.evaluate("window.delays")
    ended.set()
    seen = out.get(timeout=120)
    halt.set()
    training.join(60)
    crowd.join(60)
    if training.error is not None:
        raise training.error
    seen.pop("delays")
    return {**spread(delays), "runs": len(followed), "clients": clients, "of_the_clients": seen}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=25)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--model", default="ResNet-18")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with serving(Path(folder)) as (_, url, token):
            paints = first_paints(url, token)
            with opened(url, token) as page:
                page.goto(f"{url}/#/system")
                page.wait_for_selector("main h1")
                redrawn = page.evaluate(REDRAWN, [50, 2000, 2 * TRIES])
            shown = pixels(url, token, args.clients, args.minutes, args.model)
        rows = listed(Path(folder) / "many")
    reached = {
        "first_paint_ms": max(float(np.median(times)) for times in paints.values()),
        "runs_1000_ms": float(np.median(rows)),
        "redraw_50_curves_ms": float(np.median(redrawn)),
        "event_to_pixel_p99_ms": shown["p99_ms"],
    }
    about = environment()
    result = {
        "hardware": {key: about[key] for key in ("cpu", "cores", "memory_bytes", "system")},
        "versions": {name: version(name) for name in ("lessen", "playwright", "fastapi", "uvicorn")},
        "settings": {key: getattr(args, key) for key in ("clients", "minutes", "model")},
        "promises": judged(PROMISES, reached),
        "figures": {
            "first_paint_ms": paints, "runs_1000_ms": rows, "redraw_50_curves_ms": redrawn, "event_to_pixel": shown,
        },
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["promises"], indent=1))


if __name__ == "__main__":
    main()
