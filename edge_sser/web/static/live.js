// The live view: a card for each source, and the newest episodes.

import { duration, get, h, hourMinute, midnight, now, percent, pill, sourceName } from "./base.js";
import { drawCurve } from "./charts.js";

const RANK = { high: 3, elevated: 2, low: 1 };
const FAULTS = { missing: "Missing", silent: "No sound", overrun: "Too slow", stalled: "Stalled", paused: "Paused" };
const GAP_SECONDS = 10; // the server looks every 4 s while no page is open

export class LiveView {
  constructor(main, { about, follower, options }) {
    Object.assign(this, { about, follower, options, cards: new Map(), today: null, open: "" });
    options.sort ??= "name";
    options.span ??= 300;
    this.tiles = Object.fromEntries(["stressed", "speech", "episodes", "faults"].map((name) => [name, h("dd", { id: `tile-${name}` }, "–")]));
    this.grid = h("ul", { class: "cards", "aria-label": "Sources" });
    this.empty = h("div", { class: "note", hidden: true });
    this.latest = h("ol", { class: "latest" });
    const tile = (name, label) => h("div", { class: "tile" }, h("dt", {}, label), this.tiles[name]);
    main.append(
      h("h1", { class: "hidden" }, "Live"),
      h("dl", { class: "tiles" }, tile("stressed", "Stressed now"), tile("speech", "Speech now"), tile("episodes", "Episodes today"), tile("faults", "Sources with a fault")),
      h("div", { class: "columns" },
        h("section", { "aria-labelledby": "sources-title" },
          h("div", { class: "bar" }, h("h2", { id: "sources-title" }, "Sources"),
            this.choice("Curve", "span", [[120, "2 min"], [300, "5 min"], [600, "10 min"]]),
            this.choice("Order", "sort", [["name", "by name"], ["level", "by level"]])),
          this.empty, this.grid),
        h("aside", { class: "panel side", "aria-labelledby": "latest-title" },
          h("div", { class: "bar" }, h("h2", { id: "latest-title" }, "Newest episodes"), h("a", { href: "#/episodes" }, "All")), this.latest)));
    this.listen = () => this.update();
    follower.addEventListener("message", this.listen);
    follower.addEventListener("connection", this.listen);
    this.timer = setInterval(() => this.refresh(), 30_000);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.grid);
    this.update();
    this.refresh();
  }

  close() {
    this.follower.removeEventListener("message", this.listen);
    this.follower.removeEventListener("connection", this.listen);
    this.resized.disconnect();
    clearInterval(this.timer);
  }

  choice(label, name, values) {
    const select = h("select", { onchange: () => {
      this.options[name] = typeof values[0][0] === "number" ? Number(select.value) : select.value;
      this.update();
    } }, values.map(([value, text]) => h("option", { value, selected: value === this.options[name] }, text)));
    return h("label", {}, `${label} `, select);
  }

  async refresh() {
    try {
      const since = midnight();
      const { total, episodes } = await get("api/episodes", { since, until: Math.ceil(now()) + 60 });
      this.tiles.episodes.replaceChildren(String(total));
      this.latest.replaceChildren(...episodes.slice(0, 12).map((episode) => this.entry(episode)));
      if (!episodes.length) this.latest.append(h("li", { class: "muted" }, "None today"));
    } catch { /* no history yet, or no connection: the banner says so */ }
  }

  entry(episode) {
    const length = episode.ended === null ? "now" : duration(episode.duration_s);
    return h("li", {}, h("a", { href: `#/history?source=${encodeURIComponent(episode.key)}&day=${Math.floor(episode.started)}` },
      h("span", { class: "when" }, hourMinute(episode.started)),
      h("span", { class: "who" }, sourceName(episode.key, this.about.sources), h("small", {}, length)),
      pill(episode.level)));
  }

  update() {
    const { sources, state, connected } = this.follower;
    const all = [...sources.values()];
    if (this.options.sort === "level") all.sort((one, other) => rank(other) - rank(one) || one.key.localeCompare(other.key));
    this.grid.classList.toggle("few", all.length > 0 && all.length < 4);
    this.grid.classList.toggle("stale", !connected);
    this.say(state, all);
    for (const key of this.cards.keys()) if (!sources.has(key)) this.cards.delete(key);
    for (const source of all) {
      if (!this.cards.has(source.key)) this.cards.set(source.key, new Card(sourceName(source.key, [...sources.keys()]), source.key));
      this.cards.get(source.key).show(source);
    }
    const wanted = all.map((source) => this.cards.get(source.key).element);
    if (wanted.length !== this.grid.children.length || wanted.some((element, index) => this.grid.children[index] !== element)) this.grid.replaceChildren(...wanted);
    const stressed = all.filter((source) => rank(source) > 1).length;
    this.tiles.stressed.replaceChildren(all.length ? `${stressed} of ${all.length}` : "–");
    this.tiles.stressed.className = stressed ? (all.some((source) => rank(source) > 2) ? "high" : "elevated") : "";
    this.tiles.speech.replaceChildren(all.length ? `${all.filter((source) => source.reading?.point[1] !== null && source.reading).length} of ${all.length}` : "–");
    const faults = all.filter((source) => source.health && !["ok", "paused"].includes(source.health.state)).length;
    this.tiles.faults.replaceChildren(all.length ? String(faults) : "–");
    this.tiles.faults.className = faults ? "elevated" : "";
    const open = all.map((source) => source.episode?.id ?? "").join();
    if (open !== this.open) {
      this.open = open;
      setTimeout(() => this.refresh(), 300);
    }
    this.draw();
  }

  say(state, all) {
    this.empty.hidden = all.length > 0;
    if (all.length || !state) return;
    this.empty.replaceChildren(
      h("h3", {}, this.about.no_history ? "There is nothing to show yet" : "Nobody listens at the moment"),
      this.about.no_history
        ? h("p", {}, this.about.no_history)
        : h("p", {}, "Start ", h("code", {}, "edge-sser listen"), " or the service (", h("code", {}, "edge-sser service status"), "), with [history] in the settings: this page shows what it writes. What was heard before is under ", h("a", { href: "#/history" }, "History"), "."));
  }

  draw() {
    const until = now() + this.follower.skew;
    for (const [key, card] of this.cards) card.draw(this.follower.curves.get(key) ?? [], until, this.options.span, this.about);
  }
}

const rank = (source) => (source.reading ? RANK[source.reading.level] ?? 0 : 0);

class Card {
  constructor(name, key) {
    this.level = h("span", {});
    this.value = h("output", { class: "value" });
    this.note = h("p", { class: "state" });
    this.canvas = h("canvas", { class: "spark", role: "img", "aria-label": `Stress of ${name} over the last minutes` });
    this.speech = meter("Speech");
    this.sound = meter("Sound");
    this.element = h("li", { class: "card", "data-source": key },
      h("header", {}, h("h3", {}, h("a", { href: `#/history?source=${encodeURIComponent(key)}` }, name)), this.level),
      h("div", { class: "figure" }, this.value, this.note), this.canvas,
      h("div", { class: "meters" }, this.speech.element, this.sound.element));
  }

  show({ reading, health, episode }) {
    const level = reading?.level ?? null;
    const state = health?.state ?? "ok";
    const faulty = state !== "ok";
    this.element.className = `card ${faulty ? "faulty" : level ?? "none"}`;
    if (this.shown !== `${level}${state}`) {
      this.shown = `${level}${state}`;
      this.level.replaceChildren(faulty ? pill("fault", FAULTS[state] ?? state) : pill(level));
    }
    const spoken = reading && reading.point[1] !== null;
    this.value.textContent = faulty ? "–" : percent(reading?.rolling);
    this.value.classList.toggle("quiet", !spoken);
    this.note.textContent = faulty
      ? health.detail || FAULTS[state]
      : episode ? `Episode, ${duration(episode.duration_s)}`
      : !reading ? "Waiting for sound"
      : reading.clipped ? "The sound clips: turn the microphone down"
      : spoken ? "stress" : "stress (no speech)";
    this.speech.set(reading && !faulty ? reading.point[2] : null, reading ? percent(reading.point[2]) : "–");
    this.sound.set(reading && !faulty ? Math.max(0, 1 + reading.point[3] / 70) : null, reading ? `${Math.round(reading.point[3])} dB` : "–");
  }

  draw(points, until, span, thresholds) {
    drawCurve(this.canvas, points, { since: until - span, until, gap: GAP_SECONDS, thresholds });
  }
}

function meter(label) {
  const bar = h("span", { class: "fill" });
  const text = h("span", {});
  return {
    element: h("p", { class: "meter" }, h("span", {}, label), text, h("span", { class: "track", "aria-hidden": "true" }, bar)),
    set(share, words) {
      bar.style.width = `${100 * (share ?? 0)}%`;
      text.textContent = share === null ? "–" : words;
    },
  };
}
