// A tile per slot. Tiles are kept and changed, never built anew, so that thousands cost little and
// the focus stays where it is.

import { byId, count, duration, make, setAttribute, setText } from "./dom.js";

const STATES = ["busy", "ready", "starting", "draining", "backoff", "lost"];
/** More tiles than this are drawn small. */
const DENSE = 160;
/** From here on a tile says for how long its call has run, in seconds. */
const LONG_S = 1;

export class Slots {
  constructor() {
    this.holder = byId("slots");
    this.detail = byId("slot");
    this.workers = new Map();
    this.tiles = new Map();
    this.chosen = null;
    this.counts = new Map();
    this.makeLegend();
    this.listen();
  }

  show({ workers, running }) {
    const calls = new Map(running.map((call) => [call.id, call]));
    const counts = new Map(STATES.map((state) => [state, 0]));
    const total = workers.reduce((sum, worker) => sum + worker.slot_states.length, 0);
    this.holder.classList.toggle("dense", total > DENSE);
    byId("slots-none").hidden = total > 0;
    this.forgetWorkers(new Set(workers.map((worker) => worker.name)));
    let previous = null;
    for (const worker of workers) {
      const group = this.workers.get(worker.name) ?? this.addWorker(worker, previous);
      previous = group.element;
      this.showWorker(group, worker, calls, counts);
    }
    for (const [state, number] of counts) {
      const button = this.counts.get(state);
      setText(button.number, count(number));
      button.element.hidden = number === 0 && !["busy", "ready"].includes(state);
    }
    this.keepOneTabStop();
    this.showDetail();
  }

  addWorker(worker, previous) {
    const title = make("h3", { title: `${worker.host} · process ${worker.pid}` });
    const tiles = make("div", { class: "tiles" });
    const element = make("div", { class: "worker" }, title, tiles);
    if (previous) previous.after(element);
    else this.holder.prepend(element);
    const group = { element, title, tiles, slots: new Map() };
    this.workers.set(worker.name, group);
    return group;
  }

  forgetWorkers(names) {
    for (const [name, group] of this.workers) {
      if (names.has(name)) continue;
      group.slots.forEach((tile) => this.tiles.delete(tile.element));
      group.element.remove();
      this.workers.delete(name);
    }
  }

  showWorker(group, worker, calls, counts) {
    const kind = worker.kind === "lane" ? " stock" : "";
    if (group.heading !== worker.name + kind) {
      group.heading = worker.name + kind;
      group.title.replaceChildren(make("b", {}, worker.name), kind);
    }
    const present = new Set();
    for (const slot of worker.slot_states) {
      present.add(slot.name);
      const tile = group.slots.get(slot.name) ?? this.addTile(group, worker, slot);
      counts.set(slot.state, (counts.get(slot.state) ?? 0) + 1);
      const call = slot.call ? calls.get(slot.call) : undefined;
      const what = slot.call ? (call?.method ?? "a call") : slot.state;
      const age = call && call.age_s >= LONG_S ? ` · ${duration(call.age_s)}` : "";
      Object.assign(tile, { slot, worker, call });
      setText(tile.name, tile.number + age);
      setAttribute(tile.element, "data-state", slot.state);
      setText(tile.what, what);
      const doing = slot.call ? `, running ${what}` : "";
      setAttribute(tile.element, "aria-label", `${slot.name}: ${slot.state}${doing}`);
    }
    for (const [name, tile] of group.slots) {
      if (present.has(name)) continue;
      this.tiles.delete(tile.element);
      tile.element.remove();
      group.slots.delete(name);
    }
  }

  addTile(group, worker, slot) {
    const number = slot.name.startsWith(`${worker.name}.`) ? slot.name.slice(worker.name.length) : slot.name;
    const name = make("span", { class: "name" }, number);
    const what = make("span", { class: "what" });
    const element = make("button", { type: "button", class: "tile", tabindex: -1 }, name, what);
    group.tiles.append(element);
    const tile = { element, name, number, what };
    group.slots.set(slot.name, tile);
    this.tiles.set(element, tile);
    return tile;
  }

  makeLegend() {
    for (const state of STATES) {
      const number = make("b", {}, "0");
      const element = make("button", { type: "button", "aria-pressed": "true" }, make("i", { class: `s-${state}` }), `${state} `, number);
      element.addEventListener("click", () => {
        const isHidden = this.holder.classList.toggle(`hide-${state}`);
        element.setAttribute("aria-pressed", String(!isHidden));
        this.keepOneTabStop();
      });
      byId("legend").append(element);
      this.counts.set(state, { element, number });
    }
  }

  /** One tile can be reached by the tab key; from there the arrow keys lead on. */
  listen() {
    this.holder.addEventListener("click", (event) => {
      const tile = this.tiles.get(event.target.closest(".tile"));
      if (!tile) return;
      this.chosen?.element.removeAttribute("aria-current");
      this.chosen = this.chosen === tile ? null : tile;
      this.chosen?.element.setAttribute("aria-current", "true");
      this.setTabStop(tile.element);
      this.showDetail();
    });
    this.holder.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const shown = this.shownTiles();
      const here = shown.indexOf(document.activeElement);
      if (here < 0) return;
      const to = { Home: 0, End: shown.length - 1 }[event.key] ?? (step ? here + step : undefined);
      if (to === undefined) return;
      event.preventDefault();
      const next = shown[Math.min(Math.max(to, 0), shown.length - 1)];
      this.setTabStop(next);
      next.focus();
    });
  }

  shownTiles() {
    const hidden = STATES.filter((state) => this.holder.classList.contains(`hide-${state}`));
    return [...this.holder.querySelectorAll(".tile")].filter((tile) => !hidden.includes(tile.dataset.state));
  }

  setTabStop(element) {
    if (this.tabStop && this.tabStop !== element) this.tabStop.tabIndex = -1;
    this.tabStop = element;
    element.tabIndex = 0;
  }

  keepOneTabStop() {
    const isThere = this.tabStop?.isConnected && !this.holder.classList.contains(`hide-${this.tabStop.dataset.state}`);
    if (isThere) return;
    const first = this.shownTiles()[0];
    if (first) this.setTabStop(first);
  }

  showDetail() {
    if (this.chosen && !this.chosen.element.isConnected) this.chosen = null;
    this.detail.hidden = !this.chosen;
    if (!this.chosen) return;
    const { slot, worker, call } = this.chosen;
    const facts = [
      ["slot", slot.name],
      ["state", slot.state],
      ["call", slot.call ? `${slot.call} ${call?.method ?? ""}` : "none"],
      ["for", call ? duration(call.age_s) : "–"],
      ["calls", count(slot.calls)],
      ["failures", count(slot.failures)],
      ["mean time", slot.calls ? duration(slot.service_s / slot.calls) : "–"],
      ["host", worker.host || "–"],
      ["process", String(worker.pid || "–")],
    ];
    this.detail.replaceChildren(
      make("dl", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    );
  }
}
