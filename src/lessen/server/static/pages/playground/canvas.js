// A network's decision regions as a picture: colours mixed by probability, a line where the decision changes, points as shapes by class.

import { h } from "../../dom.js";
import { color } from "../../theme.js";
import { logits } from "../../toy/mlp.js";
import { softmax } from "../../toy/soft.js";

export const REACH = 1.6; // the plane shown: −1.6 to 1.6 both ways
const FINE = 72; // cells a side at rest
const COARSE = 40; // cells a side while it learns
const COLORS = ["--series-1", "--series-2", "--series-3", "--series-4"];

/** Return a canvas with .draw(net, data, {fine, held?}) and .onPoint(callback(x, y)); points that are held out are hollow. */
export function picture() {
  const raster = document.createElement("canvas");
  const node = h("canvas", { class: "lp-picture", role: "img" });
  node.draw = (net, data, { fine, held }) => {
    const side = Math.max(80, Math.round(node.clientWidth * Math.min(2, devicePixelRatio || 1)));
    if (node.width !== side) [node.width, node.height] = [side, side];
    const context = node.getContext("2d");
    regions(raster, net, fine ? FINE : COARSE);
    context.imageSmoothingEnabled = true;
    context.drawImage(raster, 0, 0, side, side);
    if (held) points(context, held, side, true);
    points(context, data, side, false);
  };
  node.onPoint = (callback) => node.addEventListener("click", (event) => {
    const box = node.getBoundingClientRect();
    const at = (share) => Math.round(REACH * (2 * share - 1) * 100) / 100;
    callback(at((event.clientX - box.left) / box.width), -at((event.clientY - box.top) / box.height));
  });
  return node;
}

function rgb(variable) {
  return color(variable).match(/[\d.]+/g).slice(0, 3).map(Number);
}

function regions(raster, net, cells) {
  const x = new Float64Array(2 * cells * cells);
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      const i = 2 * (row * cells + column);
      x[i] = REACH * ((2 * (column + 0.5)) / cells - 1);
      x[i + 1] = -REACH * ((2 * (row + 0.5)) / cells - 1);
    }
  }
  const classes = net.widths.at(-1);
  const out = logits(net, x);
  const chances = Array.from({ length: cells * cells }, (_, i) => softmax(out.subarray(i * classes, (i + 1) * classes)));
  paint(raster, chances, cells);
}

function paint(raster, chances, cells) {
  const [surface, text] = [rgb("--surface"), rgb("--text")];
  const palette = COLORS.map(rgb);
  const best = chances.map((row) => row.indexOf(Math.max(...row)));
  [raster.width, raster.height] = [cells, cells];
  const context = raster.getContext("2d");
  const image = context.createImageData(cells, cells);
  chances.forEach((row, i) => {
    const edge = (i % cells < cells - 1 && best[i] !== best[i + 1]) || (i + cells < best.length && best[i] !== best[i + cells]);
    for (let k = 0; k < 3; k++) {
      const mixed = row.reduce((sum, p, c) => sum + p * palette[c][k], 0);
      const pale = 0.62 * surface[k] + 0.38 * mixed;
      image.data[4 * i + k] = edge ? 0.45 * pale + 0.55 * text[k] : pale;
    }
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

function points(context, { x, labels }, side, hollow) {
  const size = Math.max(2.5, side / 90);
  const put = (value) => (side * (value / REACH + 1)) / 2;
  context.lineWidth = Math.max(1, size / 3);
  labels.forEach((label, i) => {
    context.fillStyle = color(hollow ? "--surface" : COLORS[label]);
    context.strokeStyle = color(hollow ? COLORS[label] : "--surface");
    context.beginPath();
    shape(context, label, put(x[2 * i]), put(-x[2 * i + 1]), size);
    context.fill();
    context.stroke();
  });
}

/** Circle, square, triangle, diamond: a class is told without colour too. */
function shape(context, label, x, y, size) {
  if (label === 0) context.arc(x, y, size, 0, 2 * Math.PI);
  else if (label === 1) context.rect(x - size, y - size, 2 * size, 2 * size);
  else corners(context, label === 2 ? [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]] : [[0, -1.4], [1.2, 0], [0, 1.4], [-1.2, 0]], x, y, size);
}

function corners(context, places, x, y, size) {
  places.forEach(([dx, dy], i) => (i ? context.lineTo(x + dx * size, y + dy * size) : context.moveTo(x + dx * size, y + dy * size)));
  context.closePath();
}
