// The history view: a heat map of a day, a week or a month, and the curve of one source.

import { dateValue, dayName, dayTime, fault, fromDateValue, get, h, hourMinute, levelOf, midnight, now, percent, pill, sourceName, sourceSelect } from "./base.js";
import { colours, drawCurve, drawHeat, heatColour, ticks } from "./charts.js";

// Days in a range; columns of the heat map with all sources, and of one source with a row a day; points of the curve.
const RANGES = {
  day: { days: 1, label: "Day", all: 900, one: 900, curve: 60 },
  week: { days: 7, label: "Week", all: 3600, one: 900, curve: 600 },
  month: { days: 30, label: "30 days", all: 10_800, one: 3600, curve: 3600 },
};

export class HistoryView {
  constructor(main, { about, options, parameters }) {
    Object.assign(this, { about, options, bins: {}, rows: [], points: [], chosen: null, at: null });
    options.range ??= "day";
    options.measure ??= "max";
    options.end ??= null; // midnight after the last day; null for today's
    options.source ??= "";
    if (parameters.has("source")) options.source = parameters.get("source");
    if (parameters.has("day")) Object.assign(options, { range: "day", end: midnight(Number(parameters.get("day")), 1) });
    this.title = h("h2", { id: "heat-title" });
    this.canvas = h("canvas", { class: "heat", tabindex: 0, role: "application", "aria-labelledby": "heat-title", "aria-describedby": "heat-help", "aria-roledescription": "heat map",
      onpointermove: (event) => this.point(event), onpointerleave: () => this.choose(null), onclick: (event) => { this.point(event); this.enter(); }, onkeydown: (event) => this.key(event) });
    this.readout = h("p", { class: "readout", "aria-live": "polite" });
    this.curveTitle = h("h2", { id: "curve-title" });
    this.curve = h("canvas", { class: "curve", tabindex: 0, role: "application", "aria-labelledby": "curve-title", "aria-describedby": "curve-help", "aria-roledescription": "curve",
      onpointermove: (event) => this.inspect(this.scale?.time(event.offsetX)), onpointerleave: () => this.inspect(null), onkeydown: (event) => this.keyCurve(event) });
    this.curveReadout = h("p", { class: "readout", "aria-live": "polite" });
    this.table = h("details", { class: "panel", ontoggle: () => this.fillTable() }, h("summary", {}, "The same as a table"));
    this.problem = h("div", {});
    this.toolbar = h("div", { class: "bar toolbar" });
    this.legend = h("div", { class: "legend", "aria-hidden": "true" });
    main.append(h("h1", {}, "History"), this.toolbar, this.problem,
      h("section", { class: "panel", "aria-labelledby": "heat-title" }, h("div", { class: "bar" }, this.title, this.legend), this.canvas, this.readout,
        h("p", { id: "heat-help", class: "hidden" }, "Arrow keys move between cells, Enter opens a cell's source or day. A table with the same figures follows.")),
      h("section", { class: "panel", "aria-labelledby": "curve-title" }, h("div", { class: "bar" }, this.curveTitle), this.curve, this.curveReadout,
        h("p", { id: "curve-help", class: "hidden" }, "Left and right arrow keys move through time.")),
      this.table);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.canvas);
    this.choose(null);
    this.inspect(null);
    this.load();
  }

  close() { this.resized.disconnect(); }

  redraw() { this.draw(); }

  get range() { return RANGES[this.options.range]; }

  get until() { return this.options.end ?? midnight(now(), 1); }

  get since() { return midnight(this.until - 3600, 1 - this.range.days); }

  buildToolbar() {
    const { options } = this;
    const set = (changes) => { Object.assign(options, changes); this.load(); };
    const segments = (name, values) => h("div", { class: "segments", role: "group", "aria-label": name }, values);
    const button = (text, pressed, onclick) => h("button", { type: "button", "aria-pressed": String(pressed), onclick }, text);
    const last = midnight(this.until - 3600);
    const step = (direction) => {
      const end = midnight(last, 1 + direction * this.range.days);
      set({ end: end >= midnight(now(), 1) ? null : end });
    };
    const focused = document.activeElement?.dataset?.name;
    this.toolbar.replaceChildren(
      h("label", { for: "history-source" }, "Source"), sourceSelect("history-source", this.about.sources, options.source, (source) => set({ source })),
      segments("Range", Object.entries(RANGES).map(([name, { label }]) => button(label, options.range === name, () => set({ range: name })))),
      h("div", { class: "segments", role: "group", "aria-label": "Date" },
        h("button", { type: "button", "aria-label": "Earlier", "data-name": "earlier", onclick: () => step(-1) }, "‹"),
        h("input", { type: "date", "aria-label": "Last day", value: dateValue(last), max: dateValue(now()),
          onchange: (event) => event.target.value && set({ end: midnight(fromDateValue(event.target.value), 1) }) }),
        h("button", { type: "button", "aria-label": "Later", "data-name": "later", disabled: options.end === null, onclick: () => step(1) }, "›"),
        h("button", { type: "button", "aria-pressed": String(options.end === null), onclick: () => set({ end: null }) }, "Today")),
      segments("Value of a cell", [["max", "Highest"], ["mean", "Average"]].map(([name, text]) => button(text, options.measure === name, () => { options.measure = name; this.buildToolbar(); this.arrange(); }))));
    if (focused) this.toolbar.querySelector(`[data-name=${focused}]`)?.focus();
  }

  async load() {
    this.buildToolbar();
    this.problem.replaceChildren();
    const { since, until, range } = this;
    const { source } = this.options;
    const load = (this.loading = Symbol("load"));
    try {
      const { curves } = await get("api/curves", { since, until, bin: source ? range.one : range.all, source });
      if (load !== this.loading) return;
      this.bins = curves;
      const busiest = source || mostStressed(curves);
      this.shown = busiest;
      this.arrange();
      const fine = busiest ? await get("api/curves", { since, until, bin: range.curve, source: busiest }) : { curves: {} };
      if (load !== this.loading) return;
      this.points = (fine.curves[busiest] ?? []).map(([bin, mean, highest, speech]) => [since + (bin + 0.5) * range.curve, mean, speech, highest]);
      this.draw();
    } catch (error) {
      this.problem.replaceChildren(fault(error));
    }
  }

  // Puts the bins into rows: a source each, or a day each when one source is chosen.
  arrange() {
    const { since, range, options } = this;
    const index = options.measure === "max" ? 2 : 1;
    const bySource = !options.source;
    const size = bySource ? range.all : range.one;
    this.columns = Math.round((bySource ? range.days * 86_400 : 86_400) / size);
    if (bySource) {
      this.rows = Object.entries(this.bins).map(([key, bins]) => ({ key, label: sourceName(key, this.about.sources), since, cells: cells(bins, (bin) => bin[0], index) }));
    } else {
      const starts = Array.from({ length: range.days }, (_, day) => midnight(since + 3600, day));
      this.rows = starts.map((start) => ({ key: options.source, label: dayName(start), since: start, cells: {} }));
      for (const bin of this.bins[options.source] ?? []) {
        const time = since + bin[0] * size;
        const row = this.rows.findLast((each) => each.since <= time);
        row.cells[Math.floor((time - row.since) / size)] = bin[index];
      }
    }
    this.size = size;
    const span = `${dayName(since)}${range.days > 1 ? ` to ${dayName(this.until - 3600)}` : ""}`;
    this.title.textContent = `${bySource ? "All sources" : sourceName(options.source, this.about.sources)}, ${span}`;
    const most = bySource && this.rows.length > 1 ? " (the source with the most stressed speech)" : "";
    this.curveTitle.textContent = this.shown ? `${sourceName(this.shown, this.about.sources)}: stress over time${most}` : "No readings in this time";
    this.canvas.style.height = `${Math.max(this.rows.length, 1) * (this.rows.length > 20 ? 13 : this.rows.length > 3 ? 22 : 44) + 24}px`;
    this.chosen = null;
    this.fillTable();
    this.draw();
  }

  draw() {
    const thresholds = this.about;
    const labelled = this.options.source ? [midnight(), midnight() + 86_399] : [this.since, this.until - 1];
    const labels = ticks(...labelled, (this.canvas.clientWidth - 120) / 70).map(([time, text]) => [(time - labelled[0]) / this.size, text]);
    if (this.rows.length) this.heat = drawHeat(this.canvas, this.rows, { columns: this.columns, labels, thresholds, chosen: this.chosen, selected: this.rows.findIndex((row) => !this.options.source && row.key === this.shown) });
    const paint = colours();
    this.legend.replaceChildren("calm ", ...[0.05, 0.6, 1.05, 1.8].map((share, index) => {
      const value = index < 2 ? share * thresholds.elevated : index === 2 ? (thresholds.elevated + thresholds.high) / 2 : (thresholds.high + 1) / 2;
      const swatch = h("span", { class: "swatch" });
      swatch.style.background = heatColour(value, thresholds, paint);
      return swatch;
    }), " stressed", h("span", { class: "swatch silent" }), "no speech");
    this.scale = drawCurve(this.curve, this.points, { since: this.since, until: this.until, gap: 2.5 * this.range.curve, thresholds, axes: true, at: this.at });
  }

  point(event) { this.choose(this.heat?.cell(event.offsetX, event.offsetY) ?? null); }

  choose(cell) {
    this.chosen = cell;
    this.readout.replaceChildren(...(cell ? this.describe(...cell) : [h("span", { class: "muted" }, "Point at a cell, or move with the arrow keys.")]));
    this.draw();
  }

  describe(rowIndex, column) {
    const row = this.rows[rowIndex];
    const from = row.since + column * this.size;
    const value = row.cells[column];
    const time = `${dayTime(from)} to ${hourMinute(from + this.size)}`;
    const words = value === undefined ? "nothing heard" : value === null ? "no speech" : `${this.options.measure === "max" ? "highest" : "average"} ${percent(value)} `;
    return [`${this.options.source ? "" : `${row.label}, `}${time}: ${words}`, ...(value === undefined || value === null ? [] : [pill(levelOf(value, this.about))])];
  }

  enter() {
    if (!this.chosen) return;
    const row = this.rows[this.chosen[0]];
    const day = midnight(row.since + this.chosen[1] * this.size, 1);
    if (this.options.source) Object.assign(this.options, { range: "day", end: day >= midnight(now(), 1) ? null : day });
    else Object.assign(this.options, { source: row.key });
    this.load();
  }

  key(event) {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e6], End: [0, 1e6] }[event.key];
    if (event.key === "Enter") this.enter();
    if (!move) return;
    event.preventDefault();
    const limit = (value, most) => Math.min(most, Math.max(0, value));
    const [row, column] = this.chosen ?? [0, 0];
    this.choose([limit(row + move[0], this.rows.length - 1), limit(column + move[1], this.columns - 1)]);
  }

  inspect(time) {
    const point = time === null || time === undefined || !this.points.length ? null : this.points.reduce((best, each) => (Math.abs(each[0] - time) < Math.abs(best[0] - time) ? each : best));
    this.at = point?.[0] ?? null;
    this.curveReadout.replaceChildren(...(point
      ? [`${dayTime(point[0])}: average ${percent(point[1])}, highest ${percent(point[3])}, speech ${percent(point[2])} `, pill(levelOf(point[3], this.about), levelOf(point[3], this.about) ?? "no speech")]
      : [h("span", { class: "muted" }, "Line: average of the minutes. Thin line: highest. Grey area: share of speech.")]));
    this.draw();
  }

  keyCurve(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.points.length) return;
    event.preventDefault();
    const index = this.points.findIndex((point) => point[0] === this.at);
    this.inspect(this.points[Math.min(this.points.length - 1, Math.max(0, index + step))][0]);
  }

  fillTable() {
    this.table.querySelector(".scroll")?.remove();
    if (!this.table.open) return;
    const head = h("tr", {}, h("th", { scope: "col" }, this.options.source ? "Day" : "Source"), ["From", "To", "Value", "Level"].map((text) => h("th", { scope: "col" }, text)));
    const body = [];
    for (const row of this.rows) for (const [column, value] of Object.entries(row.cells)) {
      if (value === null || body.length >= 2000) continue;
      const from = row.since + Number(column) * this.size;
      body.push(h("tr", {}, h("th", { scope: "row" }, row.label), h("td", {}, dayTime(from)), h("td", {}, hourMinute(from + this.size)), h("td", { class: "number" }, percent(value)), h("td", {}, levelOf(value, this.about))));
    }
    this.table.append(h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Values" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body))));
  }
}

const cells = (bins, column, index) => Object.fromEntries(bins.map((bin) => [column(bin), bin[index]]));

// The source with the largest share of stressed speech, high counting three times. A minute of calm added to each keeps
// a few seconds of speech from leading; time without speech does not count, nor does listening for longer.
function mostStressed(curves) {
  const sum = (bins, column) => bins.reduce((seconds, bin) => seconds + bin[column], 0);
  const share = (bins) => (sum(bins, 5) + 3 * sum(bins, 6)) / (60 + sum(bins, 4) + sum(bins, 5) + sum(bins, 6));
  return Object.entries(curves).filter(([, bins]) => bins.length).sort(([, one], [, other]) => share(other) - share(one))[0]?.[0] ?? "";
}
