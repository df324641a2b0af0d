// One layer: how its weights are spread, what was cut, the grid they were rounded to.

import { fill, h } from "../../dom.js";
import { integer, number } from "../../format.js";
import { detail as words } from "../../strings-models.js";
import { histogram } from "../../svg.js";
import { card, facts, loading, problem } from "../../widgets.js";
import { amount } from "./tree.js";
import { strip } from "./units.js";

/** Return the card of a layer with what else is to stand there; it asks for the layer's histogram by itself. */
export function detail(node, found, ctx, more) {
  const place = h("div", { class: "stack", "aria-live": "polite" }, loading(words.loading));
  const path = `/runs/${encodeURIComponent(found.run_id)}/layers/${encodeURIComponent(node.id)}/histogram`;
  const asked = { stage: found.stage, against: found.against, bins: 80 };
  ctx.api.get(path, asked, { signal: ctx.signal }).then(
    (got) => fill(place, drawn(node, got, found)),
    (error) => error.name !== "AbortError" && fill(place, problem(error)),
  );
  return card({ title: words.title(node.name), id: "layer" }, facts(numbers(node, found)), more, place);
}

function numbers(node, found) {
  const v = node.values;
  const pairs = [
    [words.path, h("code", null, node.id)],
    [words.kind, [node.kind, node.shape ? node.shape.join("×") : null].filter(Boolean).join(" ")],
    [words.parameters, integer(v.parameters)],
  ];
  for (const column of found.columns) {
    if (["parameters", "units_before", "units_after"].includes(column.key) || v[column.key] === null || v[column.key] === undefined)
      continue;
    pairs.push([column.title, amount(v[column.key], column.unit)]);
  }
  if (v.damage !== null) pairs.push([words.damage, amount(v.damage, found.damageUnit)]);
  if (v.saved !== null) pairs.push([words.saved(found.against), amount(v.saved, "bytes")]);
  return pairs;
}

function drawn(node, got, found) {
  const cuts = edges(got);
  const figure = histogram({
    title: words.weights(found.stage),
    desc: words.weightsDesc,
    edges: got.edges,
    counts: got.counts,
    log: true,
    first: found.stage,
    against: got.against_counts ? { edges: got.edges, counts: got.against_counts, name: found.against } : null,
    cuts: cuts ?? [],
    grid: got.quant && got.quant.grid.length <= 300 ? got.quant.grid : null,
    show: (v) => number(v, 3),
    x: { title: words.weight },
    y: { title: words.count },
    note: [words.log, got.against_counts ? words.outline(found.against) : null, got.quant ? words.comb : null, cuts ? words.cutNote : null]
      .filter(Boolean)
      .join(" "),
  });
  const told = facts([
    [words.n, integer(got.n)],
    [words.mean, number(got.mean)],
    [words.std, number(got.std)],
    [words.range, `${number(got.min)} … ${number(got.max)}`],
    [words.zeros, `${integer(got.zeros)} (${((got.zeros / Math.max(got.n, 1)) * 100).toFixed(1)} %)`],
  ]);
  return [
    figure,
    told,
    kept(got, node),
    quant(got.quant),
    got.remarks.map((text) => h("p", { class: "small muted" }, text)),
  ];
}

/**
 * Return where weights were cut by size: the ends of the empty gap around the zeros. None where the gap is not clear, as when each
 * row was cut by its own measure. As sharp as a bin is wide.
 */
export function edges(got) {
  if (!got.zeros || got.zeros / got.n < 0.02) return null;
  const at = got.edges.findIndex((e, i) => e <= 0 && got.edges[i + 1] > 0);
  if (at < 0) return null;
  let [left, right] = [at, at];
  while (left > 0 && got.counts[left - 1] === 0) left -= 1;
  while (right < got.counts.length - 1 && got.counts[right + 1] === 0) right += 1;
  if (left === at || right === at) return null;
  return [
    { value: got.edges[left], name: "" },
    { value: got.edges[right + 1], name: words.cut },
  ];
}

function kept(got, node) {
  if (!got.units) return null;
  const { units_before: before, units_after: after } = node.values;
  const title = h("h3", null, words.units(words.kinds[got.units] ?? got.units));
  if (!got.kept) return [title, h("p", null, before === null ? "" : words.countsOnly(after, before, words.kinds[got.units] ?? got.units))];
  return [title, strip(got.kept, got.removed ?? [], words.kinds[got.units] ?? got.units)];
}

function quant(found) {
  if (!found) return null;
  return [
    h("h3", null, words.quant),
    facts([
      [words.bits, found.bits],
      [words.scale, found.scale === null ? "–" : number(found.scale)],
      [words.zero, found.zero_point === null ? "–" : number(found.zero_point)],
      [words.scales, integer(found.scales)],
      [words.values, found.grid.length ? integer(found.grid.length) : "–"],
      [words.error, found.error_mean_square === null ? "–" : number(found.error_mean_square)],
      [words.errorRoot, found.error_mean_square === null ? "–" : number(Math.sqrt(found.error_mean_square))],
    ]),
  ];
}
