// Sliders, choices and switches that write one key of the playground's state. Each can be hidden by its name in hide=.

import { h } from "../../dom.js";
import { field, freshId, select } from "../../widgets.js";

/**
 * Return what makes controls: slider, choice, and `hidden(name)`.
 *
 * board: {state, fields, hidden, changed(key)}; changed is called after a control wrote its key
 */
export function controls(board) {
  const hidden = (name) => board.hidden.has(name);
  const set = (key, value) => {
    board.state[key] = value;
    board.changed(key);
  };
  return {
    hidden,
    slider: (key, label, show, help) => (hidden(key) ? null : slider(board, key, label, show, help, set)),
    choice: (key, label, options, help) => (hidden(key) ? null : choice(board, key, label, options, help, set)),
  };
}

function slider(board, key, label, show, help, set) {
  const { low, high, step } = board.fields[key];
  const output = h("output", { class: "slider-value" }, show(board.state[key]));
  const tell = (value) => {
    output.textContent = show(value);
    input.setAttribute("aria-valuetext", show(value));
  };
  const input = h("input", {
    type: "range", min: low, max: high, step, id: freshId(key), data: { control: key },
    on: { input: () => { tell(Number(input.value)); set(key, Number(input.value)); } },
  });
  input.value = String(board.state[key]); // after min, max and step: a browser would clip it otherwise
  tell(board.state[key]);
  output.setAttribute("for", input.id);
  const node = field({ label, control: input, help });
  node.classList.add("slider");
  input.after(output);
  return node;
}

function choice(board, key, label, options, help, set) {
  const control = select({ options, value: board.state[key], onChange: (value) => set(key, value), "data-control": key });
  return field({ label, control, help });
}

/** Put a new figure in place of another; its table stays open where it was, and the page does not jump. */
export function swap(holder, figure) {
  const open = holder.querySelector(".twin:not([hidden])") !== null;
  holder.style.minHeight = `${holder.offsetHeight}px`;
  holder.replaceChildren(figure);
  if (open) figure.querySelector(".chart-tools button")?.click();
  requestAnimationFrame(() => requestAnimationFrame(() => { holder.style.minHeight = ""; }));
}
