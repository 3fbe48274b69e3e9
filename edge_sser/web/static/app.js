// The frame of the page: addresses of views, colours, connection, and the switch for listening.

import { clock, get, h, now, sourceName } from "./base.js";
import { EpisodesView } from "./episodes.js";
import { Follower } from "./follow.js";
import { HealthView } from "./health.js";
import { HistoryView } from "./history.js";
import { LiveView } from "./live.js";
import { SettingsView } from "./settings.js";

const VIEWS = { live: LiveView, history: HistoryView, episodes: EpisodesView, health: HealthView, settings: SettingsView };
const THEMES = { system: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
const byId = (id) => document.getElementById(id);

const follower = new Follower();
const options = Object.fromEntries(Object.keys(VIEWS).map((name) => [name, {}]));
let about = null;
let view = null;
const levels = new Map();

function show() {
  if (!about) return;
  const [path, query] = location.hash.replace(/^#\//, "").split("?");
  const name = path in VIEWS ? path : "live";
  view?.close();
  const main = byId("main");
  main.replaceChildren();
  main.className = name;
  view = new VIEWS[name](main, { about, follower, options: options[name], parameters: new URLSearchParams(query) });
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} – ${about.node} – edge-sser`;
}

async function start() {
  try {
    about = await get("api/about");
  } catch (error) {
    byId("main").replaceChildren(h("p", { class: "note problem", role: "alert" }, `The page cannot be reached: ${error.message}. It tries again.`));
    setTimeout(start, 2000);
    return;
  }
  about.elevated ??= 0.35;
  about.high ??= 0.8;
  byId("node").textContent = about.node;
  byId("version").textContent = `edge-sser ${about.version}`;
  show();
}

function setTheme(theme) {
  const [sign, words] = THEMES[theme];
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  Object.assign(byId("theme"), { textContent: sign, title: `Colours: ${words}`, ariaLabel: `Colours: ${words}` });
  try { localStorage.setItem("theme", theme); } catch { /* a browser that keeps nothing */ }
  view?.draw?.();
}

function showConnection() {
  const { connected, state } = follower;
  const [words, kind] = !connected ? ["no connection", "bad"] : !state.running ? ["not listening", "idle"] : !state.listening ? ["paused", "idle"] : ["live", "good"];
  const chip = byId("connection");
  if (chip.textContent !== words) chip.textContent = words;
  chip.className = `chip ${kind}`;
  const banner = byId("banner");
  if (!connected && banner.hidden) {
    banner.textContent = `Connection lost at ${clock(now())}. What you see is from then; trying to connect again…`;
    banner.hidden = false;
  } else if (connected) banner.hidden = true;
  const button = byId("pause");
  button.hidden = !state;
  if (state) {
    if (button.dataset.listening !== String(state.listening)) {
      button.dataset.listening = state.listening;
      button.replaceChildren(state.listening ? "Pause" : "Resume", h("span", { class: "wide" }, " listening"));
    }
    button.classList.toggle("primary", !state.listening);
    button.disabled = !connected;
  }
}

// Tells a screen reader of levels that rise, not of every value.
function announce() {
  const news = [];
  for (const { key, reading } of follower.sources.values()) {
    const level = reading?.level ?? null;
    if (levels.has(key) && levels.get(key) !== level && (level === "elevated" || level === "high")) news.push(`${sourceName(key)}: ${level}`);
    levels.set(key, level);
  }
  if (news.length) byId("announcer").textContent = news.join(", ");
}

async function turn(on) {
  try {
    const answer = await fetch("api/listening", { method: "POST", body: on ? "ON" : "OFF" });
    if (!answer.ok) throw new Error(await answer.text());
  } catch (error) {
    byId("announcer").textContent = `That did not work: ${error.message}`;
  }
}

byId("pause").addEventListener("click", () => (follower.state.listening ? byId("confirm").showModal() : turn(true)));
for (const button of byId("confirm").querySelectorAll("button")) {
  button.addEventListener("click", () => {
    byId("confirm").close();
    if (button.value === "ok") turn(false);
  });
}
byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.draw?.());
let remembered = null;
try { remembered = localStorage.getItem("theme"); } catch { /* likewise */ }
setTheme(remembered in THEMES ? remembered : "system");
follower.addEventListener("message", () => { showConnection(); announce(); });
follower.addEventListener("connection", showConnection);
window.addEventListener("hashchange", () => { show(); byId("main").focus({ preventScroll: true }); scrollTo(0, 0); });
setInterval(() => { byId("clock").textContent = clock(now()); }, 1000);
start();
