// From a drawing to the 8 x 8 grey image of the handwritten digits, made as the data set was (Alpaydin and Kaynak 1998):
// a 32 x 32 bitmap whose digit fills the frame, then the inked cells of each 4 x 4 block are counted, 0 to 16.

export const SIDE = 32;
const BLOCK = 4;

/** Return an empty bitmap [SIDE, SIDE], 0 paper, 1 ink. */
export function paper() {
  return new Uint8Array(SIDE * SIDE);
}

/** Ink every cell within `radius` of the line from (x0, y0) to (x1, y1), in cells, in place. */
export function stroke_(bitmap, x0, y0, x1, y1, radius = 1.4) {
  const length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2;
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const t = length2 ? Math.max(0, Math.min(1, ((x + 0.5 - x0) * (x1 - x0) + (y + 0.5 - y0) * (y1 - y0)) / length2)) : 0;
      if (Math.hypot(x + 0.5 - x0 - t * (x1 - x0), y + 0.5 - y0 - t * (y1 - y0)) <= radius) bitmap[y * SIDE + x] = 1;
    }
  }
}

/** Return the bitmap's ink scaled to the full height (or width, where that is larger) and centred; null without ink. */
export function framed(bitmap) {
  const inked = [...bitmap.keys()].filter((i) => bitmap[i]);
  if (!inked.length) return null;
  const columns = inked.map((i) => i % SIDE);
  const rows = inked.map((i) => Math.floor(i / SIDE));
  const [left, top] = [Math.min(...columns), Math.min(...rows)];
  const [width, height] = [Math.max(...columns) - left + 1, Math.max(...rows) - top + 1];
  const size = Math.max(width, height);
  const [dx, dy] = [(size - width) / 2, (size - height) / 2];
  return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => {
    const x = Math.floor(left - dx + (((i % SIDE) + 0.5) * size) / SIDE);
    const y = Math.floor(top - dy + ((Math.floor(i / SIDE) + 0.5) * size) / SIDE);
    return x >= 0 && x < SIDE && y >= 0 && y < SIDE ? bitmap[y * SIDE + x] : 0;
  });
}

/** Return the counts of ink in each 4 x 4 block, 0 to 16, [8 x 8]. */
export function blocks(bitmap) {
  const across = SIDE / BLOCK;
  const counts = new Uint8Array(across * across);
  bitmap.forEach((ink, i) => {
    counts[Math.floor(i / SIDE / BLOCK) * across + Math.floor((i % SIDE) / BLOCK)] += ink;
  });
  return counts;
}
