// What chart.js draws over uPlot's canvas: stage borders, horizontal levels, marks; and the picture to copy.

import { color } from "./theme.js";

const font = (size, weight = "") => `${weight} ${size * devicePixelRatio}px system-ui, sans-serif`.trim();

/** Draw borders, levels and marks: the hook "draw" of uPlot. */
export function overlay(plot, { bands, levels, marks }) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top - 20 * devicePixelRatio, bbox.width, bbox.height + 28 * devicePixelRatio);
  ctx.clip();
  ctx.lineWidth = devicePixelRatio;
  drawBands(plot, bands);
  drawLevels(plot, levels);
  drawMarks(plot, marks);
  ctx.restore();
}

function drawBands(plot, bands) {
  const { ctx, bbox } = plot;
  ctx.font = font(11, "600");
  ctx.textBaseline = "bottom";
  ctx.textAlign = "left";
  bands.forEach((band, index) => {
    const x = Math.max(bbox.left, plot.valToPos(band.x, "x", true));
    const next = bands[index + 1] ? plot.valToPos(bands[index + 1].x, "x", true) : Infinity;
    if (x > bbox.left + bbox.width || next < bbox.left) return;
    ctx.strokeStyle = color("--edge");
    ctx.fillStyle = color("--muted");
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    if (index > 0) line(ctx, x, bbox.top, x, bbox.top + bbox.height);
    const room = Math.min(next, bbox.left + bbox.width) - x - 6 * devicePixelRatio;
    if (ctx.measureText(band.label).width <= room) ctx.fillText(band.label, x + 4 * devicePixelRatio, bbox.top - 3 * devicePixelRatio);
  });
  ctx.setLineDash([]);
}

function drawLevels(plot, levels) {
  const { ctx, bbox } = plot;
  for (const level of levels) {
    const y = plot.valToPos(level.y, "y", true);
    if (!Number.isFinite(y)) continue;
    ctx.strokeStyle = ctx.fillStyle = color("--text");
    ctx.setLineDash([8 * devicePixelRatio, 4 * devicePixelRatio]);
    line(ctx, bbox.left, y, bbox.left + bbox.width, y);
    ctx.setLineDash([]);
    ctx.font = font(11);
    ctx.textAlign = "right";
    const above = y - bbox.top > 18 * devicePixelRatio; // else it would run into the names of the stages
    ctx.textBaseline = above ? "bottom" : "top";
    ctx.fillText(level.label, bbox.left + bbox.width - 4 * devicePixelRatio, y + (above ? -2 : 4) * devicePixelRatio);
  }
}

/** A "bad" mark is a line with a cross on top; a "warning" mark a small triangle below the axis, where many of them hide no line: shapes, not colours alone. */
function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  const size = 5 * devicePixelRatio;
  for (const mark of marks) {
    const x = plot.valToPos(mark.x, "x", true);
    ctx.strokeStyle = ctx.fillStyle = color(mark.kind === "bad" ? "--bad" : "--warning");
    if (mark.kind === "bad") {
      line(ctx, x, bbox.top + 2 * size, x, bbox.top + bbox.height);
      ctx.lineWidth = 2 * devicePixelRatio;
      line(ctx, x - size, bbox.top, x + size, bbox.top + 2 * size);
      line(ctx, x + size, bbox.top, x - size, bbox.top + 2 * size);
      ctx.lineWidth = devicePixelRatio;
    } else {
      const foot = bbox.top + bbox.height;
      ctx.beginPath();
      ctx.moveTo(x - 0.7 * size, foot + 1.4 * size);
      ctx.lineTo(x + 0.7 * size, foot + 1.4 * size);
      ctx.lineTo(x, foot + 1);
      ctx.fill();
    }
  }
}

function line(ctx, x1, y1, x2, y2) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}

/** Return a PNG of a chart with its title and legend, as a promise of a Blob. */
export function picture(plot, title, legend) {
  const source = plot.ctx.canvas;
  const head = 56 * devicePixelRatio;
  const canvas = document.createElement("canvas");
  canvas.width = source.width;
  canvas.height = source.height + head;
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = color("--surface");
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.drawImage(source, 0, head);
  ctx.textBaseline = "top";
  ctx.fillStyle = color("--text");
  ctx.font = font(15, "600");
  ctx.fillText(title, 12 * devicePixelRatio, 8 * devicePixelRatio);
  ctx.font = font(12);
  let x = 12 * devicePixelRatio;
  for (const item of legend) {
    ctx.fillStyle = ctx.strokeStyle = color(item.color);
    ctx.lineWidth = 2.5 * devicePixelRatio;
    ctx.setLineDash(item.dash.map((length) => length * devicePixelRatio));
    line(ctx, x, 41 * devicePixelRatio, x + 22 * devicePixelRatio, 41 * devicePixelRatio);
    ctx.fillStyle = color("--text");
    ctx.fillText(item.label, x + 28 * devicePixelRatio, 34 * devicePixelRatio);
    x += 44 * devicePixelRatio + ctx.measureText(item.label).width;
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
