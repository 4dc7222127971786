// What happened between two snapshots.

const NAMES_QUANTILES = ["median", "p95", "p99"];
const NAMES_MEAN = ["mean", "", ""];

const ended = (calls) => calls.succeeded + calls.failed + calls.expired + calls.lost + calls.cancelled;
const unwell = (calls) => calls.failed + calls.expired + calls.lost + calls.shed + calls.not_found;

/** Calls per second; null when the two are of different brokers. */
export function ratesOf(before, now) {
  if (!before || before.status.epoch !== now.status.epoch) return null;
  const seconds = (now.at_ms - before.at_ms) / 1000;
  if (seconds <= 0) return null;
  const delta = (of) => Math.max(0, of(now.status.calls) - of(before.status.calls)) / seconds;
  return { answered: delta(ended), failed: delta(unwell) };
}

/** How long calls took that ended between the two. */
export function latencyOf(before, now) {
  const hasBuckets = now.methods.length === 0 || now.methods.some((method) => method.latency);
  const names = hasBuckets ? NAMES_QUANTILES : NAMES_MEAN;
  const what = hasBuckets ? "from admission to answer" : "time in the function";
  const values = [null, null, null];
  if (before && before.status.epoch === now.status.epoch) {
    if (hasBuckets) {
      const buckets = bucketsBetween(before.methods, now.methods);
      [0.5, 0.95, 0.99].forEach((share, at) => (values[at] = quantile(buckets, share)));
    } else {
      values[0] = meanService(before.workers, now.workers);
    }
  }
  return { names, what, values };
}

/** Calls by the upper bound of their bucket, all methods together. */
function bucketsBetween(before, now) {
  const older = new Map(before.map((method) => [method.name, method.latency]));
  const all = new Map();
  const add = (bound, calls) => all.set(bound, (all.get(bound) ?? 0) + calls);
  for (const { name, latency } of now) {
    if (!latency) continue;
    const then = new Map(older.get(name)?.buckets ?? []);
    let [below, belowThen] = [0, 0];
    for (const [bound, total] of latency.buckets) {
      const totalThen = then.get(bound) ?? belowThen;
      add(bound, total - below - (totalThen - belowThen));
      [below, belowThen] = [total, totalThen];
    }
    add(Infinity, latency.count - below - ((older.get(name)?.count ?? 0) - belowThen));
  }
  return [...all].sort(([a], [b]) => a - b);
}

/** Within a bucket calls count as spread evenly. */
export function quantile(buckets, share) {
  const total = buckets.reduce((sum, [, calls]) => sum + calls, 0);
  if (total <= 0) return null;
  let wanted = total * share;
  let lower = 0;
  for (const [bound, calls] of buckets) {
    if (calls >= wanted && calls > 0) {
      return bound === Infinity ? lower : lower + (bound - lower) * (wanted / calls);
    }
    wanted -= calls;
    if (bound !== Infinity) lower = bound;
  }
  return lower;
}

function meanService(before, now) {
  const sum = (workers) => {
    const totals = new Map();
    for (const worker of workers) {
      for (const slot of worker.slot_states) totals.set(`${slot.name} ${worker.pid}`, [slot.calls, slot.service_s]);
    }
    return totals;
  };
  const older = sum(before);
  let [calls, seconds] = [0, 0];
  for (const [slot, [callsNow, secondsNow]] of sum(now)) {
    const [callsThen, secondsThen] = older.get(slot) ?? [callsNow, secondsNow];
    if (callsNow < callsThen) continue;
    calls += callsNow - callsThen;
    seconds += secondsNow - secondsThen;
  }
  return calls > 0 ? seconds / calls : null;
}
