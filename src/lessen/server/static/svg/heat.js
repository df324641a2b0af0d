// A confusion matrix as a real table: every cell is a number, shaded by its share of the row; colour repeats, it does not tell alone.

import { h } from "../dom.js";
import { say } from "../widgets.js";
import { charts as words } from "../strings-result.js";

/**
 * Return a confusion matrix, rows: true label, columns: predicted.
 *
 * spec.title, spec.labels, spec.counts: [true][predicted], spec.mode: "counts" | "rows" (percent of the row)
 * spec.against?: counts of another model; cells then also say by how much they differ, and mode "change" shows only that
 * spec.onCell?(row, column): cells become buttons; spec.onPoint?(row, column | null): pointer or focus is on a cell
 *
 * The node has .point(row, column): mark a cell as the same one of a linked matrix.
 */
export function heat(spec) {
  const { labels, counts } = spec;
  const sums = counts.map((row) => row.reduce((a, b) => a + b, 0));
  const cells = [];
  const head = h(
    "tr",
    null,
    h("th", { scope: "col", class: "corner" }, words.trueLabel),
    labels.map((label) => h("th", { scope: "col", class: "number" }, say(label))),
  );
  const body = labels.map((label, i) =>
    h(
      "tr",
      null,
      h("th", { scope: "row" }, say(label)),
      labels.map((_, j) => {
        const cell = makeCell(spec, i, j, sums[i]);
        cells.push(cell);
        return cell;
      }),
    ),
  );
  const caption = h("caption", null, spec.title);
  const grid = h("table", { class: "heat" }, caption, h("thead", null, head), h("tbody", null, body));
  const node = h("div", { class: "table-scroll", role: "region", tabindex: 0, "aria-label": spec.title }, grid);
  const told = (event) => {
    const cell = event.target.closest("td");
    spec.onPoint?.(cell ? Number(cell.dataset.row) : null, cell ? Number(cell.dataset.column) : null);
  };
  for (const type of ["pointerover", "focusin"]) grid.addEventListener(type, told);
  for (const type of ["pointerleave", "focusout"]) grid.addEventListener(type, () => spec.onPoint?.(null, null));
  grid.addEventListener("keydown", (event) => travel(event, cells, labels.length));
  node.point = (row, column) =>
    cells.forEach((cell, at) => {
      cell.classList.toggle("linked", row !== null && at === row * labels.length + column);
    });
  return node;
}

function makeCell(spec, i, j, sum) {
  const { labels, counts, mode } = spec;
  const n = counts[i][j];
  const share = sum ? n / sum : 0;
  const change = spec.against ? n - spec.against[i][j] : null;
  const shown = mode === "rows" ? `${(share * 100).toFixed(1)} %` : mode === "change" ? signed(change) : n.toLocaleString();
  const level = mode === "change" ? Math.min(9, Math.abs(change)) : Math.round(Math.sqrt(share) * 9);
  const name = words.cell(labels[i], labels[j], n, (share * 100).toFixed(1)) + (change ? `, ${words.cellChange(signed(change))}` : "");
  const kind = mode === "change" ? (change === 0 ? "same" : change > 0 === (i === j) ? "won" : "lost") : i === j ? "right" : "wrong";
  const content = spec.onCell
    ? h(
        "button",
        { type: "button", "aria-label": name, tabindex: i === 0 && j === 0 ? 0 : -1, on: { click: () => spec.onCell(i, j) } },
        shown,
      )
    : shown;
  return h("td", { class: `number ${kind}`, title: name, data: { row: i, column: j, level } }, content);
}

function signed(value) {
  return value > 0 ? `+${value}` : value < 0 ? `−${-value}` : "0";
}

/** Arrow keys go from cell to cell; Tab leaves the matrix. */
function travel(event, cells, size) {
  const at = cells.findIndex((cell) => cell.contains(event.target));
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: size, ArrowUp: -size }[event.key];
  if (at < 0 || !step) return;
  const next = at + step;
  if (next < 0 || next >= cells.length || (Math.abs(step) === 1 && Math.floor(next / size) !== Math.floor(at / size))) return;
  const to = cells[next].querySelector("button");
  if (!to) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}
