// Small pieces that the parts of the playground and the learning pages share: the badge of a number's kind, a list of facts.

import { fill, h } from "../../dom.js";
import { badge, facts } from "../../widgets.js";
import { marks } from "../../strings-learn.js";

const KINDS = { toy: "info", measured: "good", estimate: "warning" };

/** A badge that says what kind of numbers stand here: "toy", "measured" or "estimate". */
export function mark(kind) {
  const node = badge(marks[kind], KINDS[kind]);
  node.classList.add("lp-mark");
  return node;
}

/** A list of facts that can be exchanged: node.show([[term, value], ...]). */
export function readings() {
  const node = h("div", { class: "lp-readings" });
  node.show = (pairs) => fill(node, facts(pairs));
  return node;
}
