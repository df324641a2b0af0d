// Charts other than series over steps (those are chart.js): each is a <figure> with title, unit, description, a table twin, copies as
// CSV, SVG and PNG, and points that the keyboard reaches (Tab into the chart, then arrow keys, Home, End; Enter acts).
//
//   bars({title, desc, unit?, rows: [{name, under?, value, low?, high?, kind?, note?}], show: value -> text})   lying bars, whiskers
//   groupedBars({.., series: [{name, kind}], rows: [{name, values: []}]})     waterfall({.., rows: [{name, value}]})
//   dots({.., series, rows: [{name, values: []}], log?})                      several shapes on a line a row: p50, p95, p99
//   scatter({.., points: [{name, x, y, series, ylow?, yhigh?}], x: {title, show, better, log?}, y: {..}, series, pareto?})
//   lines({.., series: [{name, kind, points: [[x, y]]}], x, y})               histogram({.., edges, counts, against?, cuts?})
//   heat({title, desc, labels: [], counts: [[]], mode: "counts"|"rows", ..})  a confusion matrix: a real <table>
//   front(points, {x: 1|-1, y: 1|-1}) -> {on, order, knee}                    csv(columns, rows) -> text
//   kinds (colours): c1 .. c8 from the theme's Okabe-Ito variables. Figures redraw with their width; .redraw() when data changed.

export { bars, dots, groupedBars, waterfall } from "./svg/bars.js";
export { csv, hand, save } from "./svg/copy.js";
export { chart } from "./svg/frame.js";
export { heat } from "./svg/heat.js";
export { histogram } from "./svg/histogram.js";
export { front, lines, scatter } from "./svg/scatter.js";
