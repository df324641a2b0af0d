// What can be done with a run, and where its name leads; used by the list and by the live page.
//
//   home(run) -> hash of the page that fits its state       isLive(run)
//   await cancel(run) / resume(run) / remove(run, onUndo?) / restore(run) -> RunOut, or undefined when it failed or was not wanted
//   progressText(run) -> "distil 120 of 552 steps · 2 min left"

import * as api from "./api.js";
import { integer, seconds } from "./format.js";
import { actions as words, stages } from "./strings.js";
import { ask, attempt, toast } from "./widgets.js";

const LIVE = new Set(["queued", "starting", "running", "cancelling"]);

export const isLive = (run) => LIVE.has(run.state);
const path = (run) => `/runs/${encodeURIComponent(run.run_id)}`;

export function home(run) {
  return `#/${run.state === "succeeded" ? "result" : "run"}/${encodeURIComponent(run.run_id)}`;
}

export async function cancel(run) {
  const text = run.state === "queued" ? words.cancelQueued : words.cancelText;
  if (!(await ask({ title: words.cancelTitle(run.name), text, yes: words.cancelYes, no: words.cancelNo, danger: true }))) return undefined;
  return attempt(api.post(`${path(run)}/cancel`));
}

export async function resume(run) {
  const next = await attempt(api.post(`${path(run)}/resume`));
  if (next) toast(words.resumed(run.name), { kind: "good" });
  return next;
}

/** Move a run into the bin, with a way back. */
export async function remove(run, onUndo = () => {}) {
  const next = await attempt(api.remove(path(run)));
  if (!next) return undefined;
  const undo = async () => {
    const back = await restore(run);
    if (back) onUndo(back);
  };
  toast(words.removed(run.name), { action: { label: words.undo, run: undo } });
  return next;
}

export async function restore(run) {
  const next = await attempt(api.post(`${path(run)}/restore`));
  if (next) toast(words.restored(run.name), { kind: "good" });
  return next;
}

export function progressText(run) {
  const { stage, step, total_steps: total, unit, eta_s: eta } = run.progress;
  const parts = [];
  if (run.state === "queued") parts.push(run.position === null ? words.waiting : words.position(run.position));
  if (run.state === "starting") parts.push(words.starting);
  if (run.state === "cancelling") parts.push(words.cancelling);
  if (run.state === "running" && stage) parts.push(total ? words.step(stages[stage] ?? stage, integer(step), integer(total), unit ?? "") : (stages[stage] ?? stage));
  if (run.state === "running" && eta !== null) parts.push(words.left(seconds(eta)));
  return parts.join(" · ");
}
