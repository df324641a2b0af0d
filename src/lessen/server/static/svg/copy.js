// Copy a chart or a table: CSV, SVG, PNG. Where the clipboard is not to be had, the file is saved instead, and said so.

const KEPT = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-opacity",
  "opacity",
  "font-size",
  "font-family",
  "font-weight",
  "text-anchor",
  "display",
  "visibility",
];

/** Return rows as CSV. A text that a spreadsheet would run as a formula gets an apostrophe before it. */
export function csv(columns, rows) {
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Return an SVG as a text that stands alone: the styles of the page are written into it. */
export function standalone(svg) {
  const copy = svg.cloneNode(true);
  const before = [svg, ...svg.querySelectorAll("*")];
  const after = [copy, ...copy.querySelectorAll("*")];
  before.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const name of KEPT) {
      const value = style.getPropertyValue(name);
      if (value) after[i].setAttribute(name, value);
    }
    for (const name of ["class", "tabindex", "role", "aria-label", "style"]) after[i].removeAttribute(name);
  });
  const box = svg.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", Math.round(box.width));
  copy.setAttribute("height", Math.round(box.height));
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const ground = getComputedStyle(svg.closest("figure") ?? document.body).backgroundColor;
  for (const [key, value] of Object.entries({
    width: "100%",
    height: "100%",
    fill: clear(ground) ? getComputedStyle(document.body).backgroundColor : ground,
  })) {
    paper.setAttribute(key, value);
  }
  copy.prepend(paper);
  return new XMLSerializer().serializeToString(copy);
}

function clear(colour) {
  return colour === "transparent" || /^rgba\(.*,\s*0\)$/.test(colour);
}

/** Paint an SVG of the page into a PNG of twice its size. */
export function png(svg) {
  const { width, height } = svg.getBoundingClientRect();
  return paint({ text: standalone(svg), width, height });
}

/** Paint the text of an SVG into a PNG of twice its size. */
export async function paint({ text, width, height }) {
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    await new Promise((done, failed) => {
      image.onload = done;
      image.onerror = () => failed(new Error("the picture could not be painted"));
      image.src = url;
    });
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(width * 2);
    canvas.height = Math.round(height * 2);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done, failed) => {
      canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("the picture could not be painted"))), "image/png");
    });
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Put a text or PNG blob on the clipboard, else save it. Returns "copied" or "saved". */
export async function hand(content, name) {
  const blob = content instanceof Blob ? content : null;
  try {
    if (blob) await navigator.clipboard.write([new ClipboardItem({ [blob.type]: blob })]);
    else await navigator.clipboard.writeText(content);
    return "copied";
  } catch {
    save(blob ?? new Blob([content], { type: "text/plain;charset=utf-8" }), name);
    return "saved";
  }
}

/** Save a blob as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
