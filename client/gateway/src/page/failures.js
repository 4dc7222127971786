// The last failed calls. One that was opened stays open while others come.

import { nameOf } from "./codes.js";
import { byId, duration, make, timeOfDay } from "./dom.js";

const SHOWN = 50;

export class Failures {
  constructor() {
    this.holder = byId("failures");
    this.entries = new Map();
  }

  show(failed) {
    const now = Date.now();
    const list = failed.slice(0, SHOWN).map((entry) => normal(entry, now));
    byId("failures-none").hidden = list.length > 0;
    this.holder.hidden = list.length === 0;
    const keys = new Set(list.map((entry) => entry.key));
    for (const [key, element] of this.entries) {
      if (keys.has(key)) continue;
      element.remove();
      this.entries.delete(key);
    }
    let previous = null;
    for (const entry of list) {
      let element = this.entries.get(entry.key);
      if (!element) {
        element = draw(entry);
        this.entries.set(entry.key, element);
        if (previous) previous.after(element);
        else this.holder.prepend(element);
      }
      previous = element;
    }
  }
}

/** Brokers tell the error as an object; a gateway that kept it itself tells its members. */
function normal(entry, now) {
  const error = entry.error ?? entry;
  const ended = entry.ended_ms ?? now - 1000 * (entry.ended_ago_s ?? 0);
  const key = entry.id ?? `${entry.ended_ms} ${entry.method} ${error.code}`;
  return { key, id: entry.id, method: entry.method ?? "(raw)", ended, took: entry.took_s, error, slot: entry.slot };
}

function draw({ id, method, ended, took, error, slot }) {
  const { code, message, data } = error;
  const detail = data && typeof data === "object" ? data : {};
  const what = detail.type ? `${detail.type}: ${detail.message ?? ""}` : (message ?? "");
  const summary = make(
    "summary",
    {},
    make("span", { class: "quiet" }, timeOfDay(ended)),
    make("b", { class: "mono" }, method),
    make("span", { class: "grow" }, what),
    make("span", { class: "tag bad", title: `code ${code}` }, nameOf(code)),
  );
  const facts = [
    id && `call ${id}`,
    slot && `on ${slot}`,
    detail.worker && !slot && `on ${detail.worker}`,
    detail.pid && `process ${detail.pid}`,
    took !== undefined && took !== null && `after ${duration(took)}`,
  ].filter(Boolean);
  const inside = make("div", { class: "inside" });
  if (facts.length) inside.append(make("p", { class: "quiet" }, facts.join(" · ")));
  const text = detail.traceback || detail.stderr || (data === undefined ? message : JSON.stringify(data, null, 2));
  inside.append(make("pre", { tabindex: "0" }, text ?? ""));
  return make("details", { class: "failed" }, summary, inside);
}
