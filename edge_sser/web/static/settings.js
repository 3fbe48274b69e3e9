// The settings in force, to read.

import { fault, get, h, prose } from "./base.js";

export class SettingsView {
  constructor(main, { about }) {
    this.list = h("div", { class: "tables" });
    this.file = h("p", { class: "muted" });
    main.append(h("h1", {}, "Settings"), this.file,
      about.outlook ? h("p", { class: "note" }, `What to expect: ${about.outlook}.`) : "",
      about.warning ? h("p", { class: "note problem" }, about.warning) : "", this.list);
    this.load();
  }

  close() {}

  async load() {
    try {
      const { file, tables } = await get("api/settings");
      this.file.textContent = `${file ? `From ${file}` : "No settings file: the defaults"}, read when the page was started. To change them, edit the file and reload the service. Secrets are never shown.`;
      this.list.replaceChildren(...tables.map((table) => this.table(table)));
    } catch (error) {
      this.list.replaceChildren(fault(error));
    }
  }

  table({ name, meaning, rows }) {
    const title = name ? `[${name}]` : "General";
    return h("details", { class: "panel", open: rows.some((row) => row.origin !== "default") },
      h("summary", {}, h("h2", {}, title), h("span", { class: "muted" }, prose(meaning))),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, h("table", { class: "stack settings" },
        h("thead", {}, h("tr", {}, ["Key", "Value", "From", "Meaning"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, rows.map((row) => h("tr", { class: row.origin === "default" ? "default" : "" },
          h("td", { "data-label": "Key" }, h("code", {}, row.key)), h("td", { "data-label": "Value" }, row.value === "" ? h("span", { class: "muted" }, "not set") : h("code", {}, row.value)),
          h("td", { "data-label": "From" }, row.origin), h("td", { "data-label": "Meaning" }, prose(row.meaning))))))));
  }
}
