// Two stages' confusion matrices side by side and linked: pointing at a cell marks the same one in the other; a click lists its samples.

import { fill, h } from "../../dom.js";
import { confusion as words } from "../../strings-result.js";
import { heat } from "../../svg.js";
import { card, field, select } from "../../widgets.js";
import * as m from "./metrics.js";
import { samplesView } from "./samples.js";

export function confusionCard(report, ctx, params) {
  const rows = [...report.rows.filter(hasMatrix), ...(report.baseline && hasMatrix(report.baseline) ? [report.baseline] : [])];
  if (!rows.length) return null;
  const names = rows.map((r) => r.stage);
  const last = m.final(report)?.stage;
  const state = {
    left: names.includes(params.left) ? params.left : names.includes("teacher") ? "teacher" : names[0],
    right: names.includes(params.right) ? params.right : names.includes(last) ? last : names.at(-1),
    mode: ["counts", "rows", "change"].includes(params.cells) ? params.cells : "counts",
  };
  const place = h("div", { class: "matrices" });
  const samples = samplesView(report, ctx, state, params);
  const draw = () => {
    fill(
      place,
      pair(report, rows, state, (stage, i, j) => samples.cell(stage, i, j)),
    );
  };
  const choose = (key, label) =>
    field({
      label,
      control: select({
        options: names.map((n) => [n, n]),
        value: state[key],
        onChange: (v) => {
          state[key] = v;
          ctx.query({ [key]: v });
          draw();
          samples.refresh();
        },
      }),
    });
  const mode = field({
    label: words.cells,
    control: select({
      options: Object.entries(words.modes),
      value: state.mode,
      onChange: (v) => {
        state.mode = v;
        ctx.query({ cells: v });
        draw();
      },
    }),
  });
  draw();
  const node = card(
    { title: words.title, id: "confusion" },
    h("p", { class: "small muted" }, words.lead),
    h("div", { class: "form-row" }, choose("left", words.left), choose("right", words.right), mode),
    place,
    samples,
  );
  samples.refresh();
  return node;
}

/** Multi-label models have a matrix a label, and sequences none: those have no picture here. */
function hasMatrix(row) {
  const { confusion, labels } = row.facts;
  return (
    Array.isArray(confusion) &&
    Array.isArray(labels) &&
    confusion.length === labels.length &&
    confusion.every((r) => Array.isArray(r) && r.every((n) => typeof n === "number"))
  );
}

function pair(report, rows, state, onCell) {
  const of = (stage) => rows.find((r) => r.stage === stage);
  const made = [];
  const link = (i, j) => made.forEach((one) => one.point(i, j));
  const one = (stage, against) => {
    const row = of(stage);
    const accuracy = m.value(row, "accuracy");
    const asked = stage !== "baseline" ? (i, j) => onCell(stage, i, j) : null;
    const grid = heat({
      title: words.of(stage, accuracy === null ? "" : m.show(accuracy, "share")),
      labels: row.facts.labels,
      counts: row.facts.confusion,
      mode: against ? state.mode : state.mode === "change" ? "counts" : state.mode,
      against: against ? of(against).facts.confusion : null,
      onCell: asked,
      onPoint: link,
    });
    made.push(grid);
    return grid;
  };
  const out = [one(state.left, null)];
  if (state.right !== state.left) out.push(one(state.right, state.left));
  return out;
}
