// The machine and the service: queue, disk, memory, devices, versions, token, hints.

import * as api from "../api.js";
import { fill, h, table } from "../dom.js";
import { bytes, integer, number, percent, seconds } from "../format.js";
import { cancel, home, progressText } from "../run-actions.js";
import * as shortcuts from "../shortcuts.js";
import { system as words, runs as runWords, states } from "../strings.js";
import { ask, attempt, badge, button, card, copyButton, dialog, facts, heading, link, loading, meter, problem, say, stateBadge } from "../widgets.js";

export const title = words.title;
export const styles = ["pages/system.css"];
const EVERY_S = 5;
const FULL = 0.9; // share of a disk or memory that deserves a word

export async function render(root, params, ctx) {
  const host = h("div", { class: "stack" }, loading(words.loading));
  root.append(heading({ title: words.title, lead: words.lead, actions: button(words.shortcuts, shortcuts.open) }), host);
  const load = async () => {
    try {
      draw(host, await ctx.api.get("/system", {}, { signal: ctx.signal }), load);
    } catch (error) {
      if (error.name !== "AbortError") fill(host, problem(error, load));
    }
  };
  await load();
  const timer = setInterval(() => { if (!document.hidden && !host.contains(document.activeElement)) load(); }, EVERY_S * 1000);
  const stop = ctx.live.onRuns((run) => { if (run.state !== "running") load(); });
  return () => { clearInterval(timer); stop(); };
}

function draw(host, system, reload) {
  const hints = advice(system);
  fill(host,
    hints.length ? card({ title: words.hints, class: "hints" }, h("ul", { class: "plain stack" }, hints.map(([kind, text]) => h("li", { class: `notice ${kind}` }, text)))) : h("p", { class: "notice" }, words.allWell),
    h("div", { class: "grid system-grid" }, serviceCard(system), diskCard(system), memoryCard(system), cpuCard(system)),
    queueCard(system.queue, reload), devicesCard(system), versionsCard(system), tokenCard(system), linksCard(),
  );
}

/** What a doctor would say about these numbers. */
function advice({ disk, memory, devices, auth, cpu, versions }) {
  const hints = [];
  const used = 1 - disk.free_bytes / disk.total_bytes;
  if (disk.free_bytes < 2e9) hints.push(["warning", words.lowDisk(bytes(disk.free_bytes))]);
  else if (used > FULL) hints.push(["warning", words.fullDisk(percent(used, 0))]);
  if (memory.available_bytes < 1e9) hints.push(["warning", words.lowMemory(bytes(memory.available_bytes))]);
  if (!auth) hints.push(["warning", words.noAuth]);
  if (!devices.some((device) => device.kind !== "cpu")) hints.push(["", words.cpuOnly]);
  if (cpu.flags.length && !cpu.flags.some((flag) => /vnni|amx|i8mm|dotprod/.test(flag))) hints.push(["", words.noInt8]);
  if (!versions.onnxruntime) hints.push(["warning", words.noOrt]);
  return hints;
}

function serviceCard(system) {
  return card({ title: words.service }, facts([
    [words.version, system.version], [words.uptime, seconds(system.uptime_s)], [words.sockets, integer(system.sockets)],
    [words.auth, system.auth ? words.on : words.off], [words.root, h("code", null, system.root)],
    ...Object.entries(system.runs).filter(([, count]) => count).map(([state, count]) => [(states[state] ?? state).toLowerCase(), integer(count)]),
  ]));
}

function gauge(label, used, total) {
  return meter({ label, share: used / total, text: words.used(bytes(used), bytes(total), percent(used / total, 0)) });
}

function diskCard({ disk }) {
  return card({ title: words.disk }, gauge(words.disk, disk.total_bytes - disk.free_bytes, disk.total_bytes), facts([[words.free, bytes(disk.free_bytes)], [words.runs, bytes(disk.runs_bytes)]]));
}

function memoryCard({ memory }) {
  return card({ title: words.memory }, gauge(words.memory, memory.total_bytes - memory.available_bytes, memory.total_bytes),
    facts([[words.available, bytes(memory.available_bytes)], [words.server, bytes(memory.server_rss_bytes)], memory.bench_rss_bytes === null ? null : [words.bench, bytes(memory.bench_rss_bytes)]]));
}

function cpuCard({ cpu, python, platform }) {
  const load = cpu.percent === null ? null : meter({ label: words.cpu, share: cpu.percent / 100, text: `${number(cpu.percent)} %` });
  return card({ title: words.cpu }, load, facts([[words.name, cpu.name], [words.cores, integer(cpu.cores)], [words.fast, cpu.flags.join(", ") || words.none], [words.python, python], [words.platform, platform]]));
}

function queueCard(queue, reload) {
  const stop = (run) => button(runWords.cancel, async () => { if (await cancel(run)) reload(); }, { kind: "quiet", "aria-label": `${runWords.cancel} ${run.name}`, disabled: run.state === "cancelling" });
  const columns = [
    { key: "name", title: words.run, head: true, render: (run) => link(say(run.name || run.run_id), home(run)) },
    { key: "state", title: words.state, render: (run) => stateBadge(run.state) },
    { key: "progress", title: words.progress, render: (run) => progressText(run) || "–" },
    { key: "origin", title: words.origin, render: (run) => badge(runWords.origins[run.origin] ?? run.origin) },
    { key: "stop", title: words.action, render: stop },
  ];
  return card({ title: words.queue }, table({ caption: words.queueCaption, columns, rows: queue, empty: words.noQueue, hideCaption: true }));
}

function devicesCard({ devices }) {
  const columns = [
    { key: "name", title: words.name, head: true }, { key: "kind", title: words.kind },
    { key: "total_bytes", title: words.total, numeric: true, render: (one) => bytes(one.total_bytes) }, { key: "free_bytes", title: words.free, numeric: true, render: (one) => bytes(one.free_bytes) },
  ];
  return card({ title: words.devices }, table({ caption: words.devices, columns, rows: devices, hideCaption: true }));
}

function versionsCard({ versions }) {
  return card({ title: words.versions }, facts(Object.entries(versions).map(([name, version]) => [name, version ?? words.notInstalled])));
}

function tokenCard({ auth }) {
  if (!auth) return null;
  return card({ title: words.token }, h("p", null, words.tokenText), h("div", { class: "actions" }, button(words.rotate, rotate, { kind: "danger" })));
}

async function rotate() {
  if (!(await ask({ title: words.rotateTitle, text: words.rotateText, yes: words.rotate, danger: true }))) return;
  const made = await attempt(api.post("/token/rotate"));
  if (!made) return;
  // Our own cookie went with the old token; the new one is at hand.
  await attempt(api.login(made.token));
  await dialog({ title: words.rotated, body: [h("p", null, words.rotatedText(made.path)), h("div", { class: "code-row" }, h("code", null, made.token), copyButton(made.token))] });
}

function linksCard() {
  return card({ title: words.links }, h("ul", { class: "plain links" }, words.linkList.map(([href, text]) => h("li", null, link(text, href)))));
}
