// News of runs as it happens, over one Socket.IO connection for the whole page.
//
//   restart()                       connect, or connect anew after a login (app.js does it)
//   status() -> "waiting" | "connecting" | "online" | "offline"        onStatus(callback(status, detail)) -> unsubscribe
//   onRuns(callback(run)) -> unsubscribe                    every change of state and progress of every run (RunOut)
//   onBack(callback) -> unsubscribe                         the connection is back after a break: ask again for what you show
//   subscribe(runId, {after, onEvents, onResources?, onReplay?, onProblem?}) -> unsubscribe
//     after: the last seq that the caller has; onEvents(events) gets every later event once, in order, at most once a frame
//     onReplay(count): that many events were made up for after a break
//
// The server keeps the events; this keeps only the last seq. An event out of order (the server may drop progress for a slow
// client) makes it ask GET /runs/{id}/events for what is missing before it goes on: nothing lost, nothing twice.

import { io } from "./vendor/socket.io.esm.min.js";
import * as api from "./api.js";
import { frame } from "./dom.js";

const PAGE = 1000; // events a request
let socket = null;
let state = "waiting"; // for a login, or for restart()
let detail = "";
let met = false; // connected at least once
const watchers = { status: new Set(), runs: new Set(), back: new Set() };
const feeds = new Map(); // runId -> Set of Feed

function add(set, callback) {
  set.add(callback);
  return () => set.delete(callback);
}

export const status = () => state;
export const onStatus = (callback) => add(watchers.status, callback);
export const onRuns = (callback) => add(watchers.runs, callback);
export const onBack = (callback) => add(watchers.back, callback);

function become(next, text = "") {
  if (next === state && text === detail) return;
  state = next;
  detail = text;
  for (const callback of watchers.status) callback(state, detail);
}

function start() {
  become("connecting");
  socket = io({ transports: ["polling", "websocket"], reconnectionDelay: 500, reconnectionDelayMax: 5000, timeout: 8000 });
  socket.on("connect", connected);
  socket.on("disconnect", (reason) => {
    become("offline", reason);
    // The server closed the session itself: socket.io then waits for us.
    if (reason === "io server disconnect") setTimeout(() => socket.connect(), 1000);
  });
  socket.on("connect_error", (error) => {
    become("offline", error.message);
    // Refused by the server (no token yet, too many sockets): socket.io does not try again by itself.
    if (!socket.active) setTimeout(() => socket.connect(), 5000);
  });
  socket.on("run_state", ({ run }) => watchers.runs.forEach((callback) => callback(run)));
  socket.on("run_event", (event) => feeds.get(event.run_id)?.forEach((feed) => feed.take(event)));
  socket.on("run_resources", (sample) => feeds.get(sample.run_id)?.forEach((feed) => feed.onResources?.(sample)));
}

/** Connect anew, with the cookie that a login just set. */
export function restart() {
  if (!socket) return start();
  socket.disconnect();
  socket.connect();
  return undefined;
}

function connected() {
  become("online");
  for (const group of feeds.values()) for (const feed of group) feed.join(met);
  if (met) watchers.back.forEach((callback) => callback());
  met = true;
}

/** Get every event of a run after `after`, once and in order, until the returned function is called. */
export function subscribe(runId, { after = 0, ...handlers }) {
  const feed = new Feed(runId, after, handlers);
  const group = feeds.get(runId) ?? new Set();
  group.add(feed);
  feeds.set(runId, group);
  if (socket?.connected) feed.join(false);
  return () => {
    feed.closed = true;
    group.delete(feed);
    if (group.size) return;
    feeds.delete(runId);
    if (socket?.connected) socket.emit("unsubscribe", { run_id: runId });
  };
}

export class Feed {
  constructor(runId, after, { onEvents, onResources, onReplay, onProblem }) {
    Object.assign(this, { runId, onEvents, onResources, onReplay, onProblem });
    this.last = after; // seq handed over, or waiting in `ready`
    this.ready = [];
    this.ahead = new Map(); // events that came before those they follow
    this.asking = false;
    this.closed = false;
    this.flush = frame(() => {
      const events = this.ready.splice(0);
      if (events.length && !this.closed) this.onEvents(events);
    });
  }

  /** Ask the server for the run's events from where we are. */
  join(again) {
    const before = this.last;
    socket.emit("subscribe", { run_id: this.runId, after: before }, (reply) => {
      if (this.closed || !reply) return;
      if (reply.error) this.onProblem?.(reply);
      else if (reply.seq > this.last) this.fetchMissing().then(() => again && this.onReplay?.(this.last - before));
      else if (again) this.onReplay?.(this.last - before);
    });
  }

  /** Put one event in its place. */
  take(event) {
    if (this.closed || event.seq <= this.last) return;
    if (event.seq > this.last + 1) {
      this.ahead.set(event.seq, event);
      this.fetchMissing();
      return;
    }
    this.hand(event);
    for (let next = this.ahead.get(this.last + 1); next; next = this.ahead.get(this.last + 1)) {
      this.ahead.delete(next.seq);
      this.hand(next);
    }
  }

  hand(event) {
    this.last = event.seq;
    this.ready.push(event);
    this.flush();
  }

  /** Read what is missing from the store, page by page. */
  async fetchMissing() {
    if (this.asking) return;
    this.asking = true;
    try {
      for (let more = true; more && !this.closed; ) {
        const page = await api.get(`/runs/${this.runId}/events`, { after: this.last, limit: PAGE });
        page.events.forEach((event) => this.take(event));
        more = page.more && page.events.length > 0;
      }
      for (const seq of this.ahead.keys()) if (seq <= this.last) this.ahead.delete(seq);
    } catch (error) {
      if (!this.closed) this.onProblem?.(error);
    } finally {
      this.asking = false;
    }
  }
}
