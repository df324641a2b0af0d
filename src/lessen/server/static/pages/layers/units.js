// Units of a layer as a row of cells: kept ones filled, cut ones crossed out, at their real places.

import { h } from "../../dom.js";
import { detail as words } from "../../strings-models.js";

/** Return the strip with its words; `kept` and `removed` are indices of units before the cut. */
export function strip(kept, removed, kind) {
  const gone = new Set(removed);
  const all = [...kept, ...removed].sort((a, b) => a - b);
  const label = words.strip(kept.length, all.length, kind);
  return h(
    "div",
    { class: "units" },
    h("p", null, label),
    h(
      "div",
      { class: "unit-cells", role: "img", "aria-label": `${label} ${words.removedAre(removed.join(", "))}` },
      all.map((i) =>
        h("span", { class: gone.has(i) ? "unit-cell gone" : "unit-cell", title: gone.has(i) ? words.removedOne(i) : words.keptOne(i) }),
      ),
    ),
    h(
      "details",
      null,
      h("summary", null, words.indices),
      h("p", { class: "small" }, `${words.keptAre(kept.join(", "))} ${words.removedAre(removed.join(", "))}`),
    ),
  );
}
