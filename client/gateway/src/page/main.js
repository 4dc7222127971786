// Takes the snapshots that /events sends and hands each part to the file that draws it.

import { Graph } from "./graph.js";
import { Slots } from "./slots.js";
import { Failures } from "./failures.js";
import { Methods } from "./methods.js";
import { Queues } from "./queues.js";
import { byId, count, duration, setText } from "./dom.js";
import { latencyOf, ratesOf } from "./rates.js";
import { logarithmic } from "./scale.js";
import { startTheme } from "./theme.js";

const perSecond = (value) => (value > 0 && value < 10 ? value.toFixed(1) : count(Math.round(value)));

const rateGraph = new Graph(byId("rate-graph"), "Throughput", [
  { name: "answered", style: "one", format: perSecond },
  { name: "failed", style: "two", format: perSecond },
]);
const latencyGraph = new Graph(byId("latency-graph"), "Latency", [
  { name: "median", style: "one", format: duration },
  { name: "p95", style: "three", format: duration },
  { name: "p99", style: "two", format: duration },
], logarithmic);
const slots = new Slots();
const failures = new Failures();
const methods = new Methods();
const queues = new Queues();
let before = null;

function show(now) {
  if (!now.up) {
    setLink("away", "broker away");
    before = null;
    rateGraph.add(now.at_ms, [null, null]);
    latencyGraph.add(now.at_ms, [null, null, null]);
    return;
  }
  setLink("live", "live");
  const { status } = now;
  const rates = ratesOf(before, now);
  showNumbers(status, rates);
  rateGraph.add(now.at_ms, rates ? [rates.answered, rates.failed] : [null, null]);
  const latency = latencyOf(before, now);
  latencyGraph.rename(latency.names);
  latencyGraph.add(now.at_ms, latency.values);
  setText(byId("latency-unit"), latency.what);
  slots.show(now);
  queues.show(now.methods);
  failures.show(now.failed);
  methods.show(now.methods);
  before = now;
}

function showNumbers(status, rates) {
  const { calls, slots: states } = status;
  setText(byId("cluster"), status.name);
  document.title = `Muster: ${status.name}`;
  const leaving = status.draining ? " · leaving" : "";
  setText(byId("about"), `${status.host} · ${status.version} · up ${duration(status.uptime_s)}${leaving}`);
  setText(byId("n-rate"), rates ? perSecond(rates.answered) : "–");
  setText(byId("n-queued"), count(calls.queued));
  setText(byId("n-running"), count(calls.running));
  setText(byId("n-slots"), count(states.busy));
  setText(byId("n-slots-of"), `of ${count(states.total)} slots busy`);
  const workers = status.workers.managed + status.workers.lanes;
  setText(byId("n-workers"), count(workers));
  setText(byId("n-workers-of"), workers === 1 ? "worker" : "workers");
  const failed = calls.failed + calls.expired + calls.lost;
  setText(byId("n-failed"), count(failed));
  byId("n-failed").dataset.tone = rates && rates.failed > 0 ? "bad" : "";
  setText(byId("n-retried"), count(calls.retried));
  setText(byId("n-shed"), count(calls.shed));
}

function setLink(state, text) {
  const link = byId("link");
  link.dataset.state = state;
  setText(link, text);
}

function watch() {
  const source = new EventSource("/events");
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = () => {
    setLink("away", "gateway away, trying again");
    before = null;
    // The browser gives up on some answers, such as "too many watch"; this page does not.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(watch, 3000);
    }
  };
  // A page in the background costs nobody anything.
  const hide = () => {
    if (document.hidden) {
      source.close();
      document.removeEventListener("visibilitychange", hide);
      document.addEventListener("visibilitychange", watch, { once: true });
      before = null;
    }
  };
  document.addEventListener("visibilitychange", hide);
}

startTheme(byId("theme"));
watch();
