// What every view uses: elements, requests, formats and names.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== "" && one !== null) query.append(name, one);
  }
  const answer = await fetch(query.size ? `${path}?${query}` : path);
  const content = await answer.json().catch(() => ({ error: `the page answered ${answer.status}` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

export const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(100 * value)}\u202f%`);

export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

const format = (options) => {
  const formatter = new Intl.DateTimeFormat("en-GB", options);
  return (seconds) => formatter.format(new Date(1000 * seconds));
};
export const clock = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const hourMinute = format({ hour: "2-digit", minute: "2-digit" });
export const dayName = format({ weekday: "short", day: "numeric", month: "short" });
export const dayMonth = format({ day: "numeric", month: "short" });
export const dayTime = format({ weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const now = () => Date.now() / 1000;

export function midnight(seconds = now(), days = 0) {
  const date = new Date(1000 * seconds);
  date.setHours(0, 0, 0, 0);
  date.setDate(date.getDate() + days);
  return date.getTime() / 1000;
}

export function dateValue(seconds) {
  const date = new Date(1000 * seconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export const fromDateValue = (text) => new Date(`${text}T00:00:00`).getTime() / 1000;

// The name of a source; with its node where the history has several.
export function sourceName(key, keys = []) {
  const node = key.split("/")[0];
  return keys.every((other) => other.split("/")[0] === node) ? key.slice(node.length + 1) : key;
}

export function levelOf(value, thresholds) {
  if (value === null || value === undefined) return null;
  return value >= thresholds.high ? "high" : value >= thresholds.elevated ? "elevated" : "low";
}

// A level as word, colour and shape, so that nobody needs the colour.
export function pill(level, text = level ?? "no speech yet") {
  return h("span", { class: `pill ${level ?? "none"}` }, h("span", { class: "shape", "aria-hidden": "true" }), text);
}

export function sourceSelect(id, keys, chosen, onchange) {
  const select = h("select", { id, onchange: () => onchange(select.value) }, h("option", { value: "" }, "All sources"));
  for (const key of keys) select.append(h("option", { value: key, selected: key === chosen }, sourceName(key, keys)));
  return select;
}

// Text in which `words` between backticks are code.
export const prose = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));

export const fault = (error) => h("p", { class: "note problem", role: "alert" }, error.message);
