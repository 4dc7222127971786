// How many calls wait, by method: the longest queue first.

import { byId, count, duration, make, setText } from "./dom.js";

const SHOWN = 100;

export class Queues {
  constructor() {
    this.body = byId("queues");
    this.rows = [];
  }

  show(methods) {
    const sorted = [...methods].sort((a, b) => b.queued - a.queued || (a.name < b.name ? -1 : 1)).slice(0, SHOWN);
    byId("queues-none").hidden = sorted.length > 0;
    byId("queues-table").hidden = sorted.length === 0;
    const longest = Math.max(1, ...sorted.map((method) => method.queued));
    while (this.rows.length < sorted.length) this.addRow();
    while (this.rows.length > sorted.length) this.rows.pop().row.remove();
    sorted.forEach((method, at) => {
      const row = this.rows[at];
      setText(row.name, method.name);
      row.name.title = method.name;
      setText(row.number, count(method.queued));
      row.fill.style.width = `${(100 * method.queued) / longest}%`;
      setText(row.slots, count(method.slots));
      setText(row.service, method.service_us === null ? "–" : duration(method.service_us / 1e6));
    });
  }

  addRow() {
    const name = make("td", { class: "name mono" });
    const fill = make("span", { class: "fill", "aria-hidden": "true" });
    const number = make("span", { class: "amount" });
    const slots = make("td", { class: "right" });
    const service = make("td", { class: "right" });
    const meter = make("td", {}, make("div", { class: "meter" }, number, make("span", { class: "track" }, fill)));
    const row = make("tr", {}, name, meter, slots, service);
    this.body.append(row);
    this.rows.push({ row, name, fill, number, slots, service });
  }
}
