// The methods with their documentation, and a form for each.

import { byId, count, duration, make } from "./dom.js";

export class Methods {
  constructor() {
    this.holder = byId("methods");
    this.entries = new Map();
    this.offered = "";
    byId("find").addEventListener("input", () => this.filter());
  }

  /** Snapshots have no documentation; it is asked for when other methods are on offer. */
  show(methods) {
    const offered = methods.map(({ name }) => name).join("\n");
    if (offered === this.offered) return;
    this.offered = offered;
    call("broker.methods", []).then(
      ({ result }) => result && this.list(result),
      () => (this.offered = ""),
    );
  }

  list(methods) {
    const kept = new Map();
    for (const method of methods) {
      const text = JSON.stringify([method.params, method.doc]);
      const old = this.entries.get(method.name);
      kept.set(method.name, old?.text === text ? old : { text, element: draw(method) });
    }
    this.entries = kept;
    this.holder.replaceChildren(...[...kept.values()].map(({ element }) => element));
    byId("methods-count").textContent = count(kept.size);
    byId("methods-none").hidden = kept.size > 0;
    this.filter();
  }

  filter() {
    const wanted = byId("find").value.trim().toLowerCase();
    for (const [name, { element }] of this.entries) {
      element.hidden = !name.toLowerCase().includes(wanted);
    }
  }
}

function draw(method) {
  const { name, params, doc } = method;
  const names = params?.map(({ name, optional }) => (optional ? `${name}?` : name)).join(", ") ?? "…";
  const summary = make(
    "summary",
    {},
    make("b", { class: "mono" }, `${name}(${names})`),
    make("span", { class: "quiet grow" }, doc?.split("\n")[0] ?? ""),
  );
  const inside = make("div", { class: "inside" });
  // The first line stands in the summary already.
  const more = doc?.slice(doc.split("\n")[0].length).trim();
  if (more) inside.append(make("p", { class: "doc" }, more));
  const details = make("details", { "data-method": name }, summary, inside);
  // Most are never opened, so the form is made when it is wanted.
  details.addEventListener("toggle", () => inside.querySelector("form") ?? inside.append(form(method)));
  return details;
}

function form({ name, params: declared }) {
  // Python's *args and **kwargs take any number, for which there are no fields.
  const params = declared?.some((param) => param.name.startsWith("*")) ? null : declared;
  const fields = (params ?? []).map((param) => {
    const input = make("input", { name: param.name, spellcheck: "false", autocomplete: "off", placeholder: param.optional ? "may be left out" : "JSON, else text" });
    return { input, optional: Boolean(param.optional), label: make("label", {}, param.name, input) };
  });
  const list = make("textarea", { rows: 2, spellcheck: "false" });
  list.value = "[]";
  const seconds = make("input", { type: "number", min: "0", step: "any", value: "30" });
  const button = make("button", { type: "submit", class: "main" }, "Call");
  const took = make("span", { class: "quiet" });
  const outcome = make("pre", { class: "outcome", role: "status", tabindex: "0", hidden: "" });
  const box = make("div", { class: "fields" }, ...fields.map(({ label }) => label));
  if (!params) box.append(make("label", {}, "arguments, as a JSON array", list));
  box.append(make("label", {}, "timeout in seconds (0: none)", seconds));
  const element = make("form", { class: "inside", "aria-label": `Call ${name}` }, box, make("div", { class: "row" }, button, took), outcome);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const start = performance.now();
    const say = (text, tone) => {
      outcome.hidden = false;
      outcome.dataset.tone = tone;
      outcome.textContent = text;
      took.textContent = duration((performance.now() - start) / 1000);
    };
    try {
      const args = params ? positional(fields) : JSON.parse(list.value);
      const timeout_ms = Math.ceil(1000 * Number(seconds.value));
      const { result, error } = await call(name, args, timeout_ms ? { timeout_ms } : undefined);
      if (error) say(`${error.message} (${error.code})\n${error.data?.traceback ?? JSON.stringify(error.data ?? "", null, 2)}`, "bad");
      else say(JSON.stringify(result, null, 2), "good");
    } catch (error) {
      say(String(error.message ?? error), "bad");
    } finally {
      button.disabled = false;
    }
  });
  return element;
}

/** Each field is JSON, else a string; optional ones at the end may be empty. */
function positional(fields) {
  const filled = fields.map(({ input, optional }) => !optional || input.value !== "");
  const last = filled.lastIndexOf(true);
  return fields.slice(0, last + 1).map(({ input }) => {
    try {
      return JSON.parse(input.value);
    } catch {
      return input.value;
    }
  });
}

async function call(method, params, meta) {
  const reply = await fetch("/rpc", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", method, params, id: 1, meta }),
  });
  const text = await reply.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${reply.status} ${text}`);
  }
}
