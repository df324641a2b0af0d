// Part 2: a share of a layer's weights or units falls below the cut.

import { fill, h } from "../../dom.js";
import { integer, number, percent } from "../../format.js";
import { cut as words, layer as layerWords } from "../../strings-learn.js";
import { histogram as drawn } from "../../svg.js";
import { cutHistogram, cutUnits, cutWeights, histogram, rowNorms } from "../../toy/cut.js";
import { button } from "../../widgets.js";
import { controls, swap } from "./controls.js";
import { mark, readings } from "./parts.js";
import { fields as pickerFields, picker } from "./picker.js";

export const fields = {
  ...pickerFields,
  s: { value: 0.5, kind: "number", low: 0, high: 0.95, step: 0.01 },
  what: { value: "weights", kind: "choice", choices: ["weights", "units"] },
};

export function render(root, board) {
  const { state } = board;
  const view = { holder: h("div"), readings: readings(), badge: h("span"), note: h("div", { class: "stack" }) };
  let layer = null;
  const draw = () => layer && show(view, layer, state, pick);
  const pick = picker(board, "cut", (next) => { layer = next; draw(); });
  const make = controls({ ...board, changed: () => { board.save(); draw(); } });
  const inputs = h(
    "div", { class: "lp-controls" }, pick,
    make.slider("s", words.share, (v) => percent(v, 0)), make.choice("what", words.what, Object.entries(words.kinds)),
  );
  fill(root, h("p", { class: "lead" }, view.badge, " ", words.lead), h("div", { class: "lp-split" }, inputs, view.holder), view.readings, view.note);
}

function show(view, layer, state, pick) {
  const units = state.what === "units" && layer.matrix;
  fill(view.badge, mark(layer.measured ? "measured" : "toy"), layer.exact || units ? null : [" ", mark("estimate")]);
  if (units) showUnits(view, layer, state.s);
  else showWeights(view, layer, state.s);
  fill(view.note, notes(layer, state, pick));
}

function showWeights(view, layer, share) {
  const { edges, counts } = layer.hist;
  const gone = layer.exact ? cutWeights(layer.matrix.values, share) : cutHistogram(edges, counts, share);
  const { threshold } = gone;
  swap(view.holder, drawn({
    title: layerWords.chart(layer.name), desc: layerWords.desc, edges, counts, show: (v) => number(v), name: "cut",
    x: { title: layerWords.weight }, y: { title: layerWords.count },
    gone: (low, high) => Math.abs(low + high) / 2 < threshold,
    cuts: threshold ? [{ value: -threshold, name: "" }, { value: threshold, name: words.threshold }] : [],
  }));
  view.readings.show([
    [words.threshold, number(threshold)],
    [words.removed, `${percent(gone.share)} (${integer(gone.removed ?? share * layer.n)})`],
    [`${words.energy}: ${words.energyHelp}`, percent(gone.energy)],
    [words.shape, `${layer.shape.join(" × ")}, ${words.same}`],
  ]);
}

function showUnits(view, layer, share) {
  const norms = rowNorms(layer.matrix.values, layer.matrix.columns);
  const gone = cutUnits(norms, share);
  const { edges, counts } = histogram(norms, 24);
  const limit = gone.removed.length ? Math.max(...gone.removed.map((i) => norms[i])) : 0;
  swap(view.holder, drawn({
    title: words.unitChart, desc: words.unitDesc, edges, counts, show: (v) => number(v), name: "units",
    x: { title: words.unitNorm }, y: { title: words.unitCount },
    gone: (low, high) => (low + high) / 2 < limit, cuts: limit ? [{ value: limit, name: words.cutAt }] : [],
  }));
  const [rows, ...inputs] = layer.shape;
  const left = rows - Math.round(gone.share * rows);
  view.readings.show([
    [words.removed, `${percent(1 - left / rows)} (${integer(((rows - left) * layer.n) / rows)})`],
    [`${words.energy}: ${words.energyHelp}`, percent(gone.energy)],
    [words.shape, `${[left, ...inputs].join(" × ")} (${layer.shape.join(" × ")})`],
    [words.operations, percent(left / rows)],
  ]);
}

function notes(layer, state, pick) {
  const { matrix } = layer;
  const both = matrix ? [cutWeights(matrix.values, state.s), cutUnits(rowNorms(matrix.values, matrix.columns), state.s)] : null;
  return [
    both ? h("p", null, words.compare(percent(both[0].energy), percent(both[1].energy))) : null,
    matrix && !layer.exact ? h("p", { class: "help" }, layerWords.sample(matrix.rows, matrix.of[0], matrix.columns, matrix.of[1])) : null,
    state.what === "units" && !matrix ? h("p", { class: "notice" }, words.noUnits, " ", button(words.toUnits, () => pick.choose("toy"))) : null,
    layer.kept ? h("p", null, mark("measured"), " ", words.kept(layer.kept.kept, layer.kept.removed, layer.kept.kind ?? "")) : null,
    (layer.remarks ?? []).map((text) => h("p", null, mark("measured"), " ", words.pruning(text))),
  ];
}
