// Part 3: fewer bits, a coarser grid. The same layer as in part 2.

import { fill, h } from "../../dom.js";
import { bytes, number, percent, times } from "../../format.js";
import { grid as words, layer as layerWords } from "../../strings-learn.js";
import { histogram as drawn } from "../../svg.js";
import { gridPoints, histogramError, limitOf, quantize } from "../../toy/grid.js";
import { button } from "../../widgets.js";
import { controls, swap } from "./controls.js";
import { mark, readings } from "./parts.js";
import { picker } from "./picker.js";

export const fields = {
  b: { value: 4, kind: "number", low: 2, high: 8, step: 1 },
  per: { value: "tensor", kind: "choice", choices: ["tensor", "channel"] },
};

export function render(root, board) {
  const { state } = board;
  const view = { holder: h("div"), readings: readings(), badge: h("span"), note: h("div", { class: "stack" }) };
  let layer = null;
  const draw = () => layer && show(view, layer, state, pick);
  const pick = picker(board, "grid", (next) => { layer = next; draw(); });
  const make = controls({ ...board, changed: () => { board.save(); draw(); } });
  const inputs = h(
    "div", { class: "lp-controls" }, pick,
    make.slider("b", words.bits, (v) => String(v)), make.choice("per", words.per, Object.entries(words.ways)),
  );
  fill(root, h("p", { class: "lead" }, view.badge, " ", words.lead), h("div", { class: "lp-split" }, inputs, h("div", { class: "stack" }, view.holder, h("p", { class: "help" }, words.combs))), view.readings, view.note);
}

/** Round the layer: its weights where they are here, a sample's for channels, its histogram otherwise. */
function roundedLayer(layer, bits, channel) {
  if (layer.exact || channel) return quantize(layer.matrix.values, layer.matrix.columns, bits, channel);
  const { edges, counts } = layer.hist;
  const step = Math.max(Math.abs(edges[0]), Math.abs(edges.at(-1))) / limitOf(bits);
  return { steps: [step], meanSquare: histogramError(edges, counts, step) };
}

function show(view, layer, { b, per }, pick) {
  const channel = per === "channel" && Boolean(layer.matrix);
  const { steps, meanSquare } = roundedLayer(layer, b, channel);
  const order = [...steps].sort((x, y) => x - y);
  const middle = order[Math.floor(order.length / 2)];
  const { edges, counts } = layer.hist;
  swap(view.holder, drawn({
    title: layerWords.chart(layer.name), desc: layerWords.desc, edges, counts, show: (v) => number(v), name: "grid",
    x: { title: layerWords.weight }, y: { title: layerWords.count }, grid: gridPoints(middle, b),
  }));
  fill(view.badge, mark(layer.measured ? "measured" : "toy"), layer.exact || channel ? null : [" ", mark("estimate")]);
  const weightBytes = Math.ceil((layer.n * b) / 8) + 4 * (channel ? layer.shape[0] : 1);
  view.readings.show([
    channel ? [words.steps, [order[0], middle, order.at(-1)].map((v) => number(v)).join(", ")] : [words.step, number(middle)],
    [words.error, number(meanSquare)],
    channel ? null : [words.theory, number(middle ** 2 / 12)],
    [words.relative, percent(meanSquare / power(layer, channel), 2)],
    [words.bytes, `${bytes(weightBytes)} (${words.ratio(times((4 * layer.n) / weightBytes))})`],
  ]);
  fill(view.note, notes(layer, b, per, pick));
}

/** The mean square of the weights that were rounded; of the histogram, from its bins' centres. */
function power({ exact, matrix, hist: { edges, counts } }, channel) {
  const values = exact || channel ? matrix.values : null;
  if (values) return values.reduce((sum, w) => sum + w * w, 0) / values.length;
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.reduce((sum, count, i) => sum + count * ((edges[i] + edges[i + 1]) / 2) ** 2, 0) / total;
}

function notes(layer, bits, per, pick) {
  const { matrix, quant } = layer;
  const [one, each] = matrix ? [false, true].map((channel) => quantize(matrix.values, matrix.columns, bits, channel).meanSquare) : [];
  return [
    matrix ? h("p", null, words.outlier(number(one / each))) : null,
    matrix && !layer.exact ? h("p", { class: "help" }, layerWords.sample(matrix.rows, matrix.of[0], matrix.columns, matrix.of[1])) : null,
    per === "channel" && !matrix ? h("p", { class: "notice" }, words.noRows, " ", button(words.toToy, () => pick.choose("toy"))) : null,
    quant ? h("p", null, mark("measured"), " ", words.run(quant.bits, quant.scales, number(quant.error_mean_square))) : null,
  ];
}
