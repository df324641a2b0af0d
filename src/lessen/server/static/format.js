// Numbers with units, and times. Numbers are shown in the reader's own notation; files and copies stay free of it.
//
//   number(value, digits = 3) -> "0.866"          significant digits for small values; null, NaN -> "–"
//   integer(value) -> "1,677,128"                 compact(value) -> "1.68 M"
//   percent(share, digits = 1) -> "86.6 %"        points(difference) -> "−0.4 points" (of shares)
//   bytes(value) -> "4.7 MB" (10^6)               milliseconds(value) -> "12.3 ms"
//   seconds(value) -> "3 min 12 s"                signed(value, digits) -> "+0.12"       times(value) -> "3.87 ×"
//   withUnit(value, unit) -> the one of these that fits a metric's unit ("ms", "bytes", "share", "count", "s", ...)
//   ago(time) -> <time> "3 min ago", kept fresh    clock(time) -> <time> "14:03:07"    moment(time) -> <time> date and time
//     time: unix seconds or an ISO string; each <time> has the ISO text as its title
//   bengali(text) -> true where the text has Bengali letters (say(text) in widgets.js sets lang for it)

import { h } from "./dom.js";
import { units } from "./strings.js";

export const NOTHING = "–";
const MINUS = "−";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const local = (value, options) => new Intl.NumberFormat(undefined, options).format(value).replace("-", MINUS);

/** A number with `digits` significant digits, whole digits never cut. */
export function number(value, digits = 3) {
  if (!known(value)) return NOTHING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(Math.max(0, digits - 1)).replace("-", MINUS).replace("e-", `e${MINUS}`);
  if (size >= 10 ** digits) return local(value, { maximumFractionDigits: 0 });
  return local(value, { maximumSignificantDigits: digits });
}

export function integer(value) {
  return known(value) ? local(Math.round(value), { maximumFractionDigits: 0 }) : NOTHING;
}

export function compact(value) {
  if (!known(value)) return NOTHING;
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${local(value / size, { maximumSignificantDigits: 3 })} ${letter}`;
  }
  return number(value);
}

export function percent(share, digits = 1) {
  return known(share) ? `${local(share * 100, { minimumFractionDigits: digits, maximumFractionDigits: digits })} %` : NOTHING;
}

export function signed(value, digits = 3) {
  if (!known(value)) return NOTHING;
  return value > 0 ? `+${number(value, digits)}` : number(value, digits);
}

export function points(difference, digits = 1) {
  if (!known(difference)) return NOTHING;
  const text = local(difference * 100, { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "exceptZero" });
  return `${text} ${units.points}`;
}

export function times(value) {
  return known(value) ? `${number(value)} ×` : NOTHING;
}

/** Bytes in powers of ten: 1 MB = 1,000,000 bytes, as in the reports. */
export function bytes(value) {
  if (!known(value)) return NOTHING;
  for (const [size, name] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (Math.abs(value) >= size) return `${local(value / size, { maximumSignificantDigits: 3 })} ${name}`;
  }
  return `${integer(value)} B`;
}

export function milliseconds(value) {
  return known(value) ? `${number(value)} ms` : NOTHING;
}

/** A span of time; two units at most. */
export function seconds(value) {
  if (!known(value)) return NOTHING;
  const size = Math.max(0, value);
  if (size < 1) return `${integer(size * 1000)} ms`;
  if (size < 9.95) return `${local(size, { maximumFractionDigits: 1 })} s`;
  const whole = Math.round(size);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

const BY_UNIT = {
  ms: milliseconds, s: seconds, seconds, bytes, B: bytes, share: percent, fraction: percent, count: integer,
  parameters: integer, times, "×": times, "%": (value) => (known(value) ? `${number(value)} %` : NOTHING),
};

/** A value in the words of its unit; an unknown unit stands after the number. */
export function withUnit(value, unit) {
  if (!known(value)) return NOTHING;
  if (BY_UNIT[unit]) return BY_UNIT[unit](value);
  return unit ? `${number(value)} ${unit}` : number(value);
}

function date(time) {
  return new Date(typeof time === "number" ? time * 1000 : time);
}

function stamp(time, text, kind) {
  const iso = date(time).toISOString();
  return h("time", { datetime: iso, title: iso, data: { kind } }, text);
}

/** "3 min ago" as an element that `freshen` keeps true. */
export function ago(time) {
  if (time === null || time === undefined) return NOTHING;
  return stamp(time, agoText(date(time)), "ago");
}

function agoText(when) {
  const past = (Date.now() - when.getTime()) / 1000;
  if (past < 5) return units.now;
  if (past < 7 * 86400) return units.ago(coarse(past));
  return when.toLocaleDateString();
}

function coarse(value) {
  for (const [size, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (value >= size) return `${Math.floor(value / size)} ${name}`;
  }
  return `${Math.floor(value)} s`;
}

/** Bring every "3 min ago" on the page up to date. */
export function freshen(root = document) {
  for (const node of root.querySelectorAll('time[data-kind="ago"]')) {
    const text = agoText(new Date(node.dateTime));
    if (node.textContent !== text) node.textContent = text;
  }
}

export function clock(time) {
  if (time === null || time === undefined) return NOTHING;
  return stamp(time, date(time).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" }));
}

export function moment(time) {
  if (time === null || time === undefined) return NOTHING;
  return stamp(time, date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));
}

export function bengali(text) {
  return /[\u0980-\u09ff]/.test(text);
}
