// Where the layers of parts 2 and 3 come from: the latest finished run, or a toy layer when there is none.

import { layer as words } from "../../strings-learn.js";
import { histogram } from "../../toy/cut.js";
import { toyLayer } from "../../toy/layer.js";

const BINS = 60;
const TOY = "toy";
const FEWEST = 256; // weights: a bias or a norm has too few to show a cut

/**
 * Return what both parts ask: run(), list(), load(id). Requests are made once, when first asked for.
 *
 * list() -> {options: [[id, label]], note}; load(id) -> {name, measured, hist, n, shape,
 * exact: whether `matrix` is the whole layer, matrix: {values, columns}|null (a sample of rows where not exact), quant?, remarks?}
 */
export function layerSource(ctx) {
  let found = null;
  let listed = null;
  const loaded = new Map();
  const run = () => (found ??= ctx.api.get("/runs", { state: "succeeded", limit: 1 }, { signal: ctx.signal }).then(({ runs }) => runs[0] ?? null));
  const list = () => (listed ??= layersOf(ctx, run));
  const load = (id) => {
    if (!loaded.has(id)) loaded.set(id, id === TOY ? Promise.resolve(toy()) : real(ctx, run, list, id));
    return loaded.get(id);
  };
  return { run, list, load, pickers: new Set() };
}

function toy() {
  const { values, rows, columns } = toyLayer(7);
  return { name: words.toy, measured: false, hist: histogram(values, BINS), n: values.length, shape: [rows, columns], exact: true, matrix: { values, columns } };
}

/** The weight matrices of the run before it was pruned, largest first; the note says where they are from, or why there are none. */
async function layersOf(ctx, run) {
  const ready = await run();
  if (!ready) return { options: [[TOY, words.toy]], note: words.noRun };
  try {
    const { layers, stage, stages } = await beforePruning(ctx, ready.run_id);
    const leaves = layers.filter((one) => one.shape?.length >= 2 && one.parameters >= FEWEST && !layers.some((other) => other.parent === one.id));
    leaves.sort((a, b) => b.parameters - a.parameters);
    const options = [...leaves.map((one) => [one.id, `${one.id} (${one.shape.join(" × ")})`]), [TOY, words.toy]];
    return { options, stage, stages, shapes: new Map(leaves.map((one) => [one.id, one.shape])), note: words.of(ready.name, stage) };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { options: [[TOY, words.toy]], note: `${words.noLayers} ${error.message}` };
  }
}

async function beforePruning(ctx, id) {
  const ask = (stage) => ctx.api.get(`/runs/${id}/layers`, { stage }, { signal: ctx.signal });
  const first = await ask(null);
  const wanted = first.stages.includes("distill") ? "distill" : "teacher";
  return first.stage === wanted || !first.stages.includes(wanted) ? first : ask(wanted);
}

/** A layer's histogram, with what the run's pruning and quantizing did to it where they did. */
async function real(ctx, run, list, id) {
  const [{ run_id }, { stage, stages, shapes }] = await Promise.all([run(), list()]);
  const path = `/runs/${run_id}/layers/${encodeURIComponent(id)}/histogram`;
  const ask = (of) => ctx.api.get(path, { stage: of, bins: BINS }, { signal: ctx.signal });
  const done = (of) => (stages.includes(of) ? ask(of).catch((error) => (error.status === 404 ? null : Promise.reject(error))) : null);
  const [told, pruned, quantized] = await Promise.all([ask(stage), done("prune"), done("quantize")]);
  return {
    name: id, measured: true, exact: false, matrix: sampleOf(told.rows), hist: { edges: told.edges, counts: told.counts }, shape: shapes.get(id), n: told.n,
    kept: pruned?.kept ? { kept: pruned.kept.length, removed: pruned.removed.length, kind: pruned.units } : null,
    remarks: pruned?.remarks ?? [], quant: quantized?.quant ?? null,
  };
}

/** The rows that the server sends of a matrix, at even distances, as one matrix. */
function sampleOf(rows) {
  return rows ? { values: Float64Array.from(rows.values.flat()), columns: rows.values[0].length, rows: rows.values.length, of: rows.of } : null;
}
