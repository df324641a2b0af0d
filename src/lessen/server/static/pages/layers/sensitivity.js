// What it costs to cut one layer alone, as prune.sensitivity measured it: a number a layer, and the curve of one.

import { percent } from "../../format.js";
import { detail as kinds, sensitivity as words } from "../../strings-models.js";
import { lines } from "../../svg.js";
import { better, show, tick, title } from "../result/metrics.js";

/**
 * Return what was measured, or null: {..facts.sensitivity, name, share: the largest, of(id): its layers, damage(id): worst fall, or null}.
 *
 * Only for stages whose layers are those that were cut: a teacher's have the same names.
 */
export function measured(report, stage) {
  const row = report?.rows.find((r) => r.facts.sensitivity?.layers?.length);
  const from = Object.fromEntries((report?.rows ?? []).map((r) => [r.stage, r.source]));
  let at = stage;
  while (at && at !== row?.stage && at !== row?.source) at = from[at];
  if (!row || !at) return null;
  const found = row.facts.sensitivity;
  const sign = better(found.metric) < 0 || found.metric.includes("loss") ? -1 : 1;
  const share = Math.max(...found.shares);
  const last = found.shares.indexOf(share);
  // heads and the like are named by the module around what makes them; wider couplings say nothing of one layer
  const within = (id, { module, kind }) => id.startsWith(`${module}.`) && ["heads", "ffn"].includes(kind);
  const of = (id) => found.layers.filter((one) => `${one.module}.`.startsWith(`${id}.`) || within(id, one));
  const damage = (id) => {
    const known = of(id).filter(({ values }) => Number.isFinite(values[last]));
    return known.length ? Math.max(...known.map(({ values }) => sign * (found.baseline - values[last]))) : null;
  };
  return { ...found, name: title(found.metric), share, of, damage };
}

/** The score over the share that is masked, a line a kind of unit; null where the layer was not measured. */
export function curve(node, found) {
  const layers = (found?.of(node.id) ?? []).filter(({ module }) => module === node.id || !node.children.length);
  if (!layers.length) return null;
  return lines({
    title: words.title,
    desc: words.desc,
    note: words.note(found.n),
    series: layers.map((one, i) => ({
      name: kinds.kinds[one.kind] ?? one.kind,
      kind: `c${i + 1}`,
      points: [[0, found.baseline], ...found.shares.map((share, k) => [share, one.values[k]])].filter((p) => Number.isFinite(p[1])),
    })),
    x: { title: words.share, show: percent, tick: (v) => percent(v, 0) },
    y: { title: found.name, show: (v) => show(v, found.unit), tick: (v) => tick(v, found.unit) },
    zero: false,
    marks: [{ y: found.baseline, name: words.baseline }],
  });
}
