// A model as a tower of blocks: one bar a layer, as long as it has units; cut units at their real places; bits as shading and words.

import { h, s } from "../../dom.js";
import { integer, number, percent } from "../../format.js";
import { network as words } from "../../strings-models.js";
import { cells, width } from "./rows.js";

/**
 * Return a tower.
 *
 * spec.title, spec.under, spec.blocks, spec.most (units of the longest bar), spec.mode, spec.cuts: Map id -> {kept, removed},
 * spec.was: Map id -> layer before this stage, spec.chosen: id, spec.onChoose(layer), spec.side: "left" | "right"
 */
export function tower(spec) {
  const rows = spec.blocks.map((block) =>
    h(
      "li",
      { class: "block", data: { block: block.list === null ? block.rows[0].id : `${block.list}.${block.index}` } },
      block.title ? h("p", { class: "block-title" }, block.title) : null,
      h(
        "ul",
        null,
        block.rows.map((layer) => h("li", null, bar(layer, spec))),
      ),
    ),
  );
  return h(
    "section",
    { class: `tower ${spec.side} mode-${spec.mode}`, "aria-label": spec.title },
    h("h3", null, spec.title),
    h("p", { class: "small muted" }, spec.under),
    h("ol", null, rows),
  );
}

function bar(layer, spec) {
  const was = spec.was?.get(layer.id);
  const cut = spec.mode === "cut";
  const whole = cut && was ? width(was) : width(layer);
  const { left, places } = cut ? cells(layer, spec.cuts?.get(layer.id)) : { left: 1, places: null };
  const told = tell(layer, was, spec.mode, places !== null);
  const zeros = layer.sparsity > 0.02 && spec.mode !== "bits";
  const parts = [
    h("span", { class: "cell", style: { "flex-grow": left } }),
    left < 1 ? h("span", { class: "cell gone", style: { "flex-grow": 1 - left } }) : null,
  ];
  const strip = places
    ? h(
        "span",
        { class: "places" },
        places.map((there) => h("span", { class: there ? "unit" : "unit gone" })),
      )
    : null;
  const fill = h(
    "span",
    {
      class: "fill",
      style: {
        width: `${(whole / spec.most) * 100}%`,
        "--bits": spec.mode === "bits" || spec.mode === "result" ? Math.min(32, layer.bits ?? 32) / 32 : 1,
      },
    },
    parts,
    zeros ? h("span", { class: "zeros", style: { width: `${layer.sparsity * 100}%` } }) : null,
  );
  return h(
    "button",
    {
      type: "button",
      class: "layer",
      "aria-pressed": String(spec.chosen === `${spec.side}:${layer.id}`),
      "aria-label": `${layer.id}: ${told}`,
      data: { id: layer.id },
      on: { click: () => spec.onChoose(layer) },
    },
    h("span", { class: "layer-line" }, h("span", { class: "short" }, layer.short), h("span", { class: "said" }, told)),
    fill,
    strip,
  );
}

function tell(layer, was, mode, exact) {
  const { units_before: before, units_after: after } = layer;
  const now = words.outputs(integer(width(layer)));
  if (mode === "cut") {
    if (before && before !== after) return `${words.cut(before, after)}${exact ? "" : `, ${words.countsOnly}`}`;
    if (layer.sparsity > 0.02) return words.zeros(percent(layer.sparsity, 0));
    return was && width(was) !== width(layer) ? words.outputsChanged(integer(width(was)), integer(width(layer))) : now;
  }
  if (mode === "bits" || mode === "result") return `${now}, ${words.bits(number(layer.bits, 2))}`;
  return now;
}

/** Draw lines from the teacher's blocks to the student's they were copied to. */
export function links(board, pairs) {
  const overlay = s("svg", { class: "links", "aria-hidden": "true" });
  const draw = () => {
    const box = board.getBoundingClientRect();
    overlay.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    overlay.replaceChildren(
      ...[...pairs]
        .map(([mine, theirs]) => {
          const from = board.querySelector(`.tower.left [data-block="${CSS.escape(theirs)}"]`)?.getBoundingClientRect();
          const to = board.querySelector(`.tower.right [data-block="${CSS.escape(mine)}"]`)?.getBoundingClientRect();
          if (!from || !to) return null;
          const [x1, y1, x2, y2] = [
            from.right - box.left,
            from.top + from.height / 2 - box.top,
            to.left - box.left,
            to.top + to.height / 2 - box.top,
          ];
          const half = (x1 + x2) / 2;
          return s("path", { d: `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}`, class: "link" });
        })
        .filter(Boolean),
    );
  };
  overlay.redraw = draw;
  return overlay;
}
