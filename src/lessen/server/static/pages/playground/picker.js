// The choice of a layer that parts 2 and 3 share: both look at the same one.

import { fill, h } from "../../dom.js";
import { problem, select, field } from "../../widgets.js";
import { layer as words } from "../../strings-learn.js";

/** The field of the address: a layer's id; "" is the first that there is. */
export const fields = { layer: { value: "", kind: "text" } };

/**
 * Return a node with the choice, and `show(layer)` is called with each layer that was chosen and loaded.
 *
 * board: {state, source, save}; the returned node has .choose(id), which every picker follows
 */
export function picker(board, name, show) {
  const note = h("p", { class: "help" });
  const box = h("div");
  const node = h("div", { class: "stack" }, box, note);
  const choose = async (id) => {
    try {
      show(await board.source.load(id));
    } catch (error) {
      if (error.name !== "AbortError") fill(note, problem(error));
    }
  };
  node.take = (id) => {
    const control = box.querySelector("select");
    if (control) control.value = id;
    return choose(id);
  };
  node.choose = (id) => {
    board.state.layer = id;
    board.save();
    for (const other of board.source.pickers) other.take(id);
  };
  board.source.pickers.add(node);
  node.ready = board.source.list().then(({ options, note: text }) => {
    note.textContent = text;
    const ids = options.map(([id]) => id);
    const first = ids.includes(board.state.layer) ? board.state.layer : ids[0];
    if (options.length > 1 && !board.hidden.has("layer")) {
      fill(box, field({ label: words.which, control: select({ options, value: first, onChange: node.choose, "data-control": `layer-${name}` }) }));
    }
    return choose(first);
  }).catch((error) => error.name === "AbortError" || fill(note, problem(error)));
  return node;
}
