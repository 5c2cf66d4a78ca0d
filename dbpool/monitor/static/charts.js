// Charts: the history of one pool, drawn by uPlot. What is drawn is the history as it came: stacked, but not thinned.

import { h, put } from "./dom.js";
import { clock, duration, number, t, word } from "./text.js";

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
const REASONS = ["gray", "red", "violet", "orange", "teal", "yellow"];
const SHORTEST = 60; // seconds that are shown, however short the history is

const layer = (name, colour, label = name) => ({ name, colour, label: word(label), of: (history) => history[name] });
const closed = (reason, at) => ({
  ...layer(`closed ${reason}`, REASONS[at % REASONS.length], reason), isBelow: true,
  of: (history) => history.closed[reason] ?? [],
});

// Of each chart: its layers, from the bottom up, and how far its axis goes.
const CHARTS = [
  { id: "connections", title: "Connections", form: "area", isTall: true,
    layers: () => [layer("used", "used"), layer("idle", "idle"), layer("connecting", "opening")],
    range: ({ max }, least, most) => [0, Math.max(max, most)] },
  { id: "waiting", title: "Callers waiting", form: "area",
    layers: () => [layer("waiting", "orange")], range: (history, least, most) => [0, Math.max(4, most)] },
  { id: "waits", title: "Wait time", form: "line",
    layers: () => [layer("wait_p50", "teal", "p50"), layer("wait_p95", "orange", "p95"),
      layer("wait_p99", "red", "p99")],
    range: (history, least, most) => [0, 1.1 * most || 0.01] },
  { id: "turnover", title: "Opened and closed per second", form: "bars",
    layers: (history) => [layer("opened", "green"), ...Object.keys(history.closed).map(closed)],
    range: (history, least, most) => [Math.min(-1, Math.floor(least)), Math.max(1, Math.ceil(most))] },
  { id: "errors", title: "Errors per second", form: "bars",
    layers: () => [layer("errors", "red", "connect errors"), layer("timeouts", "orange", "time-outs")],
    range: (history, least, most) => [0, Math.max(1, Math.ceil(most))] },
];

// uPlot draws the first series first: so the top layer comes first, and those below it cover the rest of it.
function stacked(layers, history) {
  const sums = { true: [], false: [] };
  return layers.map(({ of, isBelow = false }) => of(history).map((value, at) => {
    const sum = sums[isBelow];
    return (sum[at] = (sum[at] ?? 0) + (isBelow ? -value : value));
  })).reverse();
}

// A line needs two points: those that stand alone are drawn as such.
function isolated(plot, series) {
  const values = plot.data[series];
  return values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
}

// Round steps from 0 that end with the limit itself.
function stepsTo(limit, most) {
  const step = STEPS.find((size) => limit / size <= most) ?? limit;
  const found = [];
  for (let at = 0; at < limit - step / 2; at += step) found.push(at);
  return [...found, limit];
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const plain = (value) => number(value, Math.abs(value - Math.round(value)) < 0.05 ? 0 : 1);

class Chart {
  constructor(spec, range) {
    Object.assign(this, spec, { range, bounds: spec.range, write: spec.form === "line" ? duration : plain });
    this.legend = h("ul");
    this.time = h("time");
    this.area = h("div", { class: "plot", role: "img", "aria-label": t(spec.title) });
    const caption = h("figcaption", {}, h("h3", {}, t(spec.title)), this.time, this.legend);
    this.figure = h("figure", { class: spec.isTall ? "tall" : "", "data-chart": spec.id }, caption, this.area);
    this.figure.chart = this;
    this.sizes = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.sizes.observe(this.area);
  }

  update(history) {
    this.history = history;
    const layers = this.layers(history);
    const names = layers.map(({ name }) => name).join();
    if (names !== this.names) this.begin(layers, names);
    const drawn = this.form === "line" ? layers.map(({ of }) => of(history)) : stacked(layers, history);
    this.plot.setData([history.t, ...drawn], false);
    const [oldest, newest] = [history.t[0], history.t.at(-1)];
    this.plot.setScale("x", { min: newest - Math.min(this.range, Math.max(SHORTEST, newest - oldest)), max: newest });
    this.read(this.plot.cursor.idx);
  }

  begin(layers, names) {
    this.plot?.destroy();
    this.names = names;
    this.values = layers.map(() => h("b"));
    this.legend.replaceChildren(...layers.map(({ label, colour: name }, at) => {
      const swatch = h("i");
      swatch.style.background = colour(name);
      return h("li", {}, swatch, `${label} `, this.values[at]);
    }));
    if (this.isTall) this.limit = this.legend.appendChild(h("li"));
    this.plot = new uPlot(this.options(layers), [[], ...layers.map(() => [])], this.area);
  }

  // In the legend stand the values below the pointer, or else the newest.
  read(at) {
    const index = at ?? this.history.t.length - 1;
    put(this.time, at == null ? "" : clock(this.history.t[index]));
    this.layers(this.history).forEach(({ of }, which) => put(this.values[which], this.write(of(this.history)[index])));
    if (this.limit) put(this.limit, t("max {0}", this.history.max));
  }

  size() {
    return { width: Math.max(200, this.area.clientWidth), height: this.area.clientHeight };
  }

  options(layers) {
    const isLine = this.form === "line";
    const axis = { stroke: colour("muted"), font: `11px ${getComputedStyle(document.body).fontFamily}`,
      grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    const x = { ...axis, size: 24, space: 64,
      values: (plot, splits, at, space, step) => splits.map((time) => clock(time, step < 60)) };
    const y = { ...axis, size: isLine ? 62 : 40, space: 26,
      values: (plot, splits) => splits.map((at) => this.write(Math.abs(at))) };
    if (this.isTall) y.splits = () => stepsTo(this.plot.scales.y.max, 5);
    else if (!isLine) y.incrs = STEPS;
    const series = layers.map((layer) => this.series(colour(layer.colour), isLine));
    return {
      ...this.size(), padding: [8, 26, 0, 0], legend: { show: false },
      cursor: { sync: { key: "time" }, drag: { x: false }, y: false, points: { show: false } },
      scales: { y: { range: (plot, least, most) => this.bounds(this.history, least ?? 0, most ?? 0) } },
      axes: [x, y],
      series: [{}, ...(isLine ? series : series.reverse())],
      hooks: { setCursor: [({ cursor }) => this.history && this.read(cursor.idx)],
        draw: this.isTall ? [(plot) => drawLimit(plot, this.history.max)] : [] },
    };
  }

  series(stroke, isLine) {
    if (isLine) return { stroke, width: 1.5, points: { show: false, size: 4, fill: stroke, filter: isolated } };
    const paths = this.form === "area" ? uPlot.paths.stepped({ align: -1 }) : uPlot.paths.bars({ size: [0.8, 14, 2] });
    return { stroke, fill: stroke, fillTo: 0, width: 0, paths, points: { show: false } };
  }

  end() {
    this.sizes.disconnect();
    this.plot?.destroy();
  }
}

function drawLimit(plot, limit) {
  const { ctx, bbox: { left, width } } = plot;
  ctx.save();
  ctx.strokeStyle = colour("ink");
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.strokeRect(left, plot.valToPos(limit, "y", true), width, 0);
  ctx.restore();
}

export function charts(range) {
  const made = CHARTS.map((spec) => new Chart(spec, range));
  return {
    element: h("div", { class: "charts" }, made.map(({ figure }) => figure)),
    update: (history) => made.forEach((chart) => chart.update(history)),
    end: () => made.forEach((chart) => chart.end()),
  };
}
