// A layer of the network view: its numbers at every stage, which of its units are left, and the way to its weights.

import { h, table } from "../../dom.js";
import { number } from "../../format.js";
import { detail as units, network as words } from "../../strings-models.js";
import { card, link } from "../../widgets.js";
import { strip } from "../layers/units.js";
import { show } from "../result/metrics.js";

/** found: [[stage, layer]] in the order of the run; cut: {kept, removed} or null */
export function inspected(layer, found, id, stage, cut) {
  const columns = [
    { key: "stage", title: words.stage, head: true, render: ([name]) => name },
    { key: "shape", title: words.shape, numeric: true, render: ([, l]) => l.shape?.join(" × ") ?? "–" },
    {
      key: "units",
      title: words.units,
      numeric: true,
      render: ([, l]) =>
        l.units_before === null ? "–" : l.units_before === l.units_after ? String(l.units_after) : `${l.units_before} → ${l.units_after}`,
    },
    ...[
      ["parameters", "count", words.parameters],
      ["sparsity", "share", words.zero],
      ["bits", "", words.bitsEach],
      ["bytes", "bytes", words.bytes],
      ["flops", "FLOP", words.flops],
      ["latency_share", "share", words.time],
      ["error", "", words.error],
    ].map(([key, unit, title]) => ({ key, title, numeric: true, render: ([, l]) => (unit === "" ? number(l[key]) : show(l[key], unit)) })),
  ];
  return card(
    { title: layer.id, id: "layer" },
    table({ caption: words.numbers(layer.id), columns, rows: found, hideCaption: true }),
    cut?.kept ? strip(cut.kept, cut.removed, units.unitsWord) : null,
    h("p", null, link(words.weights, `#/layers/${id}?stage=${encodeURIComponent(stage)}&layer=${encodeURIComponent(layer.id)}`)),
  );
}
