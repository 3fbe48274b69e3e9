// The episodes: a filter, a table, and the same as CSV.

import { clock, dateValue, dayName, duration, fault, fromDateValue, get, h, midnight, now, percent, pill, sourceName, sourceSelect } from "./base.js";

const COLUMNS = ["Day", "Start", "Duration", "Source", "Level", "Peak", "Average"];

export class EpisodesView {
  constructor(main, { about, options, follower }) {
    Object.assign(this, { about, options });
    options.from ??= dateValue(midnight(now(), -6));
    options.to ??= dateValue(now());
    options.source ??= "";
    options.level ??= "";
    const field = (id, label, control) => h("div", { class: "field" }, h("label", { for: id }, label), control);
    const date = (name) => h("input", { id: `filter-${name}`, type: "date", value: options[name], max: dateValue(now()), onchange: (event) => this.set(name, event.target.value) });
    const level = h("select", { id: "filter-level", onchange: () => this.set("level", level.value) },
      [["", "All"], ["elevated", "Elevated and high"], ["high", "High only"]].map(([value, text]) => h("option", { value, selected: value === options.level }, text)));
    this.count = h("p", { role: "status", class: "count" });
    this.csv = h("a", { class: "button", download: "episodes.csv" }, "Download CSV");
    this.list = h("div", { class: "scroll panel", tabindex: 0, role: "region", "aria-label": "Episodes" });
    main.append(h("h1", {}, "Episodes"),
      h("form", { class: "bar toolbar", onsubmit: (event) => event.preventDefault() },
        field("filter-from", "From", date("from")), field("filter-to", "To", date("to")),
        field("filter-source", "Source", sourceSelect("filter-source", about.sources, options.source, (value) => this.set("source", value))),
        field("filter-level", "Level", level), this.csv),
      this.count, this.list);
    this.follower = follower;
    this.open = null;
    this.listen = () => {
      const open = [...follower.sources.values()].map((source) => source.episode?.id ?? "").join();
      if (this.open !== null && open !== this.open) setTimeout(() => this.load(), 500);
      this.open = open;
    };
    follower.addEventListener("message", this.listen);
    this.load();
  }

  close() { this.follower.removeEventListener("message", this.listen); }

  set(name, value) {
    this.options[name] = value;
    this.load();
  }

  async load() {
    const { from, to, source, level } = this.options;
    const wanted = { since: fromDateValue(from), until: midnight(fromDateValue(to), 1), source, level };
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
    this.csv.setAttribute("href", `episodes.csv?${query}`);
    const load = (this.loading = Symbol("load"));
    if (from > to) {
      this.count.textContent = "The first day lies after the last.";
      this.list.replaceChildren();
      return;
    }
    try {
      const { total, episodes } = await get("api/episodes", wanted);
      if (load !== this.loading) return;
      const length = episodes.reduce((sum, episode) => sum + episode.duration_s, 0);
      this.count.textContent = `${total} ${total === 1 ? "episode" : "episodes"}${total ? `, ${duration(length)} in all` : ""}${total > episodes.length ? `; the newest ${episodes.length} are listed, the CSV file has all` : ""}`;
      this.list.replaceChildren(total ? this.table(episodes) : h("p", { class: "muted pad" }, "No episode in this time. A wider range or another level may have some."));
    } catch (error) {
      this.count.textContent = "";
      this.list.replaceChildren(fault(error));
    }
  }

  table(episodes) {
    const cell = (label, attributes, ...children) => h("td", { "data-label": label, ...attributes }, ...children);
    return h("table", { class: "stack" }, h("thead", {}, h("tr", {}, COLUMNS.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, episodes.map((episode) => h("tr", {},
        cell("Day", {}, dayName(episode.started)),
        cell("Start", {}, h("a", { href: `#/history?source=${encodeURIComponent(episode.key)}&day=${Math.floor(episode.started)}` }, clock(episode.started))),
        cell("Duration", { class: "number" }, episode.ended === null ? "goes on" : duration(episode.duration_s)),
        cell("Source", {}, sourceName(episode.key, this.about.sources)),
        cell("Level", {}, pill(episode.level)),
        cell("Peak", { class: "number" }, percent(episode.peak)),
        cell("Average", { class: "number" }, percent(episode.mean))))));
  }
}
