// A sheet to draw a digit on, by pointer or by keys, and what the model will see of it.

import { fill, h } from "../../dom.js";
import { bench as words } from "../../strings-learn.js";
import { color } from "../../theme.js";
import { SIDE, blocks, framed, paper, stroke_ } from "../../toy/ink.js";
import { button } from "../../widgets.js";

const PIXELS = 256; // of the canvas a side; the style sheet scales it
const CELL = PIXELS / SIDE;

/** Return the sheet; `ask(dataUrl)` gets the 8 x 8 PNG; .redraw() when the theme changed. */
export function sheet(ask) {
  const canvas = h("canvas", { class: "lp-sheet", width: PIXELS, height: PIXELS, tabindex: 0, role: "application" });
  const small = h("canvas", { class: "lp-seen", width: 8, height: 8, role: "img", "aria-label": words.drawn });
  const one = { bitmap: paper(), pen: [SIDE / 2, SIDE / 2], down: false, keys: false };
  const send = button(words.useDrawing, () => ask(small.toDataURL("image/png")), { kind: "primary", disabled: true });
  const draw = () => {
    show(canvas, one);
    const seen = framed(one.bitmap);
    send.disabled = !seen;
    grey(small, seen ? blocks(seen) : new Uint8Array(64));
  };
  const clear = button(words.clear, () => { one.bitmap = paper(); draw(); });
  const to = (x, y) => {
    stroke_(one.bitmap, ...one.pen, x, y);
    one.pen = [x, y];
    draw();
  };
  pointer(canvas, one, to);
  keys(canvas, one, to, draw);
  draw();
  const node = h("div", { class: "lp-drawing" });
  node.redraw = draw;
  return fill(node, h("figure", null, h("figcaption", null, words.draw), canvas), h("figure", null, h("figcaption", null, words.drawn), small), h("div", { class: "stack" }, h("p", { class: "help" }, words.drawHelp), h("div", { class: "actions" }, send, clear)));
}

function pointer(canvas, one, to) {
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    one.keys = false;
    one.pen = at(event);
    to(...one.pen);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) for (const part of event.getCoalescedEvents?.() ?? [event]) to(...at(part));
  });
}

function keys(canvas, one, to, draw) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.key !== " " && !moves[event.key]) return;
    event.preventDefault();
    one.keys = true;
    if (event.key === " ") one.down = !one.down;
    const [dx, dy] = moves[event.key] ?? [0, 0];
    const next = [one.pen[0] + dx, one.pen[1] + dy].map((value) => Math.max(1, Math.min(SIDE - 1, value)));
    if (one.down) to(...next);
    else one.pen = next;
    draw();
  });
}

function show(canvas, { bitmap, pen, down, keys: byKeys }) {
  const context = canvas.getContext("2d");
  context.fillStyle = color("--surface");
  context.fillRect(0, 0, PIXELS, PIXELS);
  context.fillStyle = color("--text");
  bitmap.forEach((ink, i) => ink && context.fillRect((i % SIDE) * CELL, Math.floor(i / SIDE) * CELL, CELL, CELL));
  if (byKeys) {
    context.strokeStyle = color(down ? "--bad" : "--accent");
    context.lineWidth = 3;
    context.strokeRect(pen[0] * CELL - CELL, pen[1] * CELL - CELL, 2 * CELL, 2 * CELL);
  }
  canvas.setAttribute("aria-label", words.drawLabel(Math.round(pen[0]), Math.round(pen[1]), down));
}

function grey(canvas, counts) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(8, 8);
  counts.forEach((count, i) => {
    image.data.set([0, 1, 2].map(() => Math.round((count * 255) / 16)), 4 * i);
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}
