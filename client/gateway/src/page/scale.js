// Where a value stands between the bottom and the top of a graph, and which values are written beside it.

/** The next of 1, 2, 5, 10, 20 … that is not below. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

/** From nothing to a little over the highest. */
export function linear(values) {
  const top = roundUp(Math.max(...values, 0) || 1);
  return { marks: [0, top / 2, top], share: (value) => value / top };
}

/** By powers of ten, for values of which some are a thousand times others. */
export function logarithmic(values) {
  const known = values.filter((value) => value > 0);
  const low = known.length ? Math.floor(Math.log10(Math.min(...known)) + 1e-9) : -4;
  const high = Math.max(low + 1, known.length ? Math.ceil(Math.log10(Math.max(...known)) - 1e-9) : 0);
  const marks = [];
  for (let power = low; power <= high; power++) marks.push(10 ** power);
  return { marks, share: (value) => (value > 0 ? Math.max(0, (Math.log10(value) - low) / (high - low)) : 0) };
}
