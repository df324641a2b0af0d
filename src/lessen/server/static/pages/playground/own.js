// Own points: typed, pasted or clicked, and how the address holds them.

import { h } from "../../dom.js";
import { toy as words } from "../../strings-learn.js";
import { parsePoints } from "../../toy/points.js";
import { button, field, select } from "../../widgets.js";

const MOST_IN_LINK = 150;

/** Write points for the address, four digits each; "" when they are too many for a link. */
export function pointsText(rows) {
  if (rows.length > MOST_IN_LINK) return "";
  return rows.map(([x, y, label]) => `${Number(x.toPrecision(4))}_${Number(y.toPrecision(4))}_${label}`).join(",");
}

/** Read what `pointsText` wrote. */
export function pointsOf(text) {
  return parsePoints(text.replaceAll(",", "\n").replaceAll("_", " ")).rows;
}

/**
 * Return the form of own points: node.add(x, y) adds one of the chosen class; `use(rows)` is called with new points.
 */
export function ownPoints(rows, use, announce) {
  let points = rows;
  const area = h("textarea", { rows: 6, spellcheck: "false", class: "mono" });
  const write = () => { area.value = points.map((row) => row.join(", ")).join("\n"); };
  write();
  const box = field({ label: words.ownLabel, control: area, help: words.ownText });
  const label = select({ options: [0, 1, 2, 3].map((i) => [String(i), words.className(i)]), value: "0" });
  const take = () => {
    const read = parsePoints(area.value);
    const long = read.rows.length > MOST_IN_LINK ? words.ownLong : "";
    box.fail(read.errors.slice(0, 3).join("; ") || long);
    points = read.rows;
    if (!read.errors.length) use(points);
  };
  const node = h(
    "fieldset", { class: "lp-own stack" },
    h("legend", null, words.ownTitle), field({ label: words.ownClass, control: label }), box,
    h("div", { class: "row" }, button(words.ownUse, take)),
  );
  node.add = (x, y) => {
    points = [...points, [x, y, Number(label.value)]];
    write();
    announce(words.ownAdded(x, y, label.value));
    use(points);
  };
  return node;
}
