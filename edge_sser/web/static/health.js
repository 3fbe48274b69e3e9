// Health of the sources, and what the doctor finds.

import { dayTime, fault, get, h, pill, sourceName } from "./base.js";

const WORDS = { ok: "ok", silent: "no sound", missing: "microphone missing", overrun: "too slow", stalled: "stalled", paused: "paused" };
const LEVELS = { ok: "low", paused: "none", fine: "low", warning: "elevated", problem: "high" };

export const healthPill = (state) => pill(LEVELS[state] ?? (state ? "elevated" : "none"), WORDS[state] ?? state ?? "not known");

export class HealthView {
  constructor(main, { about, follower }) {
    Object.assign(this, { about, follower });
    this.sources = h("div", {});
    this.changes = h("div", {});
    this.findings = h("div", { "aria-live": "polite" }, h("p", { class: "muted" }, "Checks model, settings and outputs. Microphones and the broker are checked by ", h("code", {}, "edge-sser doctor"), " in a terminal."));
    this.run = h("button", { type: "button", onclick: () => this.examine() }, "Run the checks");
    main.append(h("h1", {}, "Health"),
      h("section", { class: "panel", "aria-labelledby": "now-title" }, h("h2", { id: "now-title" }, "Sources"), this.sources),
      h("section", { class: "panel", "aria-labelledby": "doctor-title" }, h("div", { class: "bar" }, h("h2", { id: "doctor-title" }, "Doctor"), this.run), this.findings),
      h("section", { class: "panel", "aria-labelledby": "changes-title" }, h("h2", { id: "changes-title" }, "Changes of the last week"), this.changes));
    this.listen = () => {
      const states = JSON.stringify([...follower.sources.values()].map((source) => source.health?.state));
      if (states !== this.states) {
        this.states = states;
        this.load();
      }
    };
    follower.addEventListener("message", this.listen);
    this.load();
  }

  close() { this.follower.removeEventListener("message", this.listen); }

  async load() {
    const live = this.follower.sources;
    const name = (key) => sourceName(key, this.about.sources);
    try {
      const { sources, changes } = await get("api/health");
      const current = live.size ? [...live.values()].map(({ key, health }) => ({ key, ...health })) : sources;
      this.sources.replaceChildren(rows(["Source", "State", "Since", "What to do"], current.map(({ key, state, ts, detail }) =>
        [name(key), healthPill(state), ts ? dayTime(typeof ts === "number" ? ts : Date.parse(ts) / 1000) : "", detail ?? ""])));
      this.changes.replaceChildren(changes.length ? rows(["Time", "Source", "State", "Detail"], changes.map(({ key, ts, state, detail }) =>
        [dayTime(ts), name(key), healthPill(state), detail])) : h("p", { class: "muted" }, "None"));
    } catch (error) {
      this.sources.replaceChildren(fault(error));
    }
  }

  async examine() {
    this.run.disabled = true;
    this.run.textContent = "Checking…";
    try {
      const { findings } = await get("api/findings");
      this.findings.replaceChildren(rows(["Check", "Result", "Detail"], findings.map(({ name, state, detail, remedy }) =>
        [name, healthPill(state), h("span", {}, detail, remedy ? h("strong", { class: "remedy" }, ` ${remedy}`) : "")])));
    } catch (error) {
      this.findings.replaceChildren(fault(error));
    } finally {
      this.run.disabled = false;
      this.run.textContent = "Run the checks again";
    }
  }
}

function rows(columns, content) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": columns.join(", ") }, h("table", { class: "stack" },
    h("thead", {}, h("tr", {}, columns.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, content.map((row) => h("tr", {}, row.map((cell, index) => h("td", { "data-label": columns[index] }, cell)))))));
}
