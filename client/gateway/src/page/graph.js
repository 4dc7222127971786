// A graph of the last minutes. The mouse or the arrow keys read values off it.

import { duration, make, setAttribute, setText, timeOfDay } from "./dom.js";
import { linear } from "./scale.js";

const POINTS = 300;
/** A young graph is not squeezed into the corner of five minutes. */
const POINTS_FIRST = 60;
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [600, 170, 52, 18, 8];
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

export class Graph {
  /** `scale` is one of scale.js. */
  constructor(holder, title, lines, scale = linear) {
    this.title = title;
    this.lines = lines;
    this.scale = scale;
    this.points = [];
    this.chosen = null;
    this.svg = svg("svg", { tabindex: 0, role: "img" }, holder);
    this.grid = svg("g", {}, this.svg);
    this.rules = [];
    this.from = svg("text", { class: "label" }, this.svg);
    this.until = svg("text", { class: "label", "text-anchor": "end" }, this.svg);
    setText(this.until, "now");
    this.area = svg("path", { class: "area one" }, this.svg);
    this.paths = lines.map(({ style }) => svg("path", { class: `line ${style}` }, this.svg));
    this.cursor = svg("line", { class: "cursor", visibility: "hidden" }, this.svg);
    this.key = make("p", { class: "key" });
    this.values = lines.map(({ style }) => {
      const value = make("b");
      const name = make("span", { class: `k-${style}` });
      this.key.append(name);
      return { name, value, label: document.createTextNode("") };
    });
    this.values.forEach(({ name, value, label }) => name.append(label, value));
    this.when = make("span", { class: "when" });
    this.key.append(this.when);
    this.spoken = make("p", { class: "unseen", "aria-live": "polite" });
    holder.append(this.key, this.spoken);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(holder);
  }

  rename(names) {
    this.lines.forEach((line, at) => (line.name = names[at]));
  }

  add(at, values) {
    this.points.push({ at, values });
    if (this.points.length > POINTS) {
      this.points.shift();
      if (this.chosen !== null) this.chosen = Math.max(0, this.chosen - 1);
    }
    this.draw();
  }

  listen() {
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      const share = (event.clientX - box.left - LEFT) / (box.width - LEFT);
      this.choose(Math.round(share * (this.span - 1)) - (this.span - this.points.length));
    });
    this.svg.addEventListener("pointerleave", () => this.choose(null));
    this.svg.addEventListener("blur", () => this.choose(null));
    this.svg.addEventListener("keydown", (event) => {
      const last = this.points.length - 1;
      const here = this.chosen ?? last;
      const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape") this.choose(null);
      if (to === undefined) return;
      event.preventDefault();
      this.choose(to);
      setText(this.spoken, this.reading(this.points[this.chosen]));
    });
  }

  choose(place) {
    const last = this.points.length - 1;
    this.chosen = place === null || last < 0 ? null : Math.min(Math.max(place, 0), last);
    this.draw();
  }

  reading(point) {
    const parts = this.lines
      .map(({ name, format }, at) => [name, point.values[at], format])
      .filter(([name, value]) => name && value !== null)
      .map(([name, value, format]) => `${name} ${format(value)}`);
    return `${timeOfDay(point.at)}: ${parts.join(", ") || "no calls"}`;
  }

  /** How many points the width stands for. */
  get span() {
    return Math.max(POINTS_FIRST, this.points.length);
  }

  draw() {
    const { span } = this;
    const width = this.svg.clientWidth || WIDTH;
    const known = this.points.flatMap(({ values }) => values).filter((value) => value !== null);
    const { marks, share } = this.scale(known);
    const x = (place) => LEFT + ((place + span - this.points.length) / (span - 1)) * (width - LEFT);
    const y = (value) => TOP + (1 - share(value)) * (HEIGHT - TOP - BOTTOM);
    while (this.rules.length < marks.length) this.addRule();
    while (this.rules.length > marks.length) Object.values(this.rules.pop()).forEach((element) => element.remove());
    this.rules.forEach(({ rule, label }, at) => {
      const value = marks[at];
      for (const [name, number] of [["x1", LEFT], ["x2", width], ["y1", y(value)], ["y2", y(value)]]) {
        setAttribute(rule, name, number.toFixed(1));
      }
      setAttribute(label, "x", String(LEFT - 6));
      setAttribute(label, "y", (y(value) + 4).toFixed(1));
      setText(label, value === 0 ? "0" : this.lines[0].format(value));
    });
    setAttribute(this.from, "x", String(LEFT));
    setAttribute(this.from, "y", String(HEIGHT - 2));
    setText(this.from, `${duration(span)} ago`);
    setAttribute(this.until, "x", String(width));
    setAttribute(this.until, "y", String(HEIGHT - 2));
    this.paths.forEach((path, line) => path.setAttribute("d", this.outline(line, x, y)));
    this.area.setAttribute("d", this.filled(x, y));
    this.drawKey(x);
  }

  addRule() {
    const rule = svg("line", { class: "grid" }, this.grid);
    const label = svg("text", { class: "label", "text-anchor": "end" }, this.grid);
    this.rules.push({ rule, label });
  }

  /** A line with gaps where nothing is known; a lone point is a dot. */
  outline(line, x, y) {
    let path = "";
    let pen = "M";
    this.points.forEach(({ values }, place) => {
      const value = values[line];
      if (value === null) {
        pen = "M";
        return;
      }
      path += `${pen}${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
      if (pen === "M") path += "h0";
      pen = "L";
    });
    return path;
  }

  filled(x, y) {
    let path = "";
    let start = null;
    this.points.forEach(({ values: [value] }, place) => {
      const next = this.points[place + 1]?.values[0] ?? null;
      if (value === null) return;
      if (start === null) {
        start = place;
        path += `M${x(place).toFixed(1)} ${y(0).toFixed(1)}`;
      }
      path += `L${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
      if (next === null) {
        path += `L${x(place).toFixed(1)} ${y(0).toFixed(1)}Z`;
        start = null;
      }
    });
    return path;
  }

  drawKey(x) {
    const point = this.points[this.chosen ?? this.points.length - 1];
    if (!point) return;
    this.values.forEach(({ name, value, label }, at) => {
      const line = this.lines[at];
      name.hidden = !line.name;
      const number = point.values[at];
      const text = `${line.name} `;
      if (label.data !== text) label.data = text;
      setText(value, number === null ? "–" : line.format(number));
    });
    setText(this.when, this.chosen === null ? "" : timeOfDay(point.at));
    setAttribute(this.cursor, "visibility", this.chosen === null ? "hidden" : "visible");
    if (this.chosen !== null) {
      const at = x(this.chosen).toFixed(1);
      for (const [name, number] of [["x1", at], ["x2", at], ["y1", TOP], ["y2", HEIGHT - BOTTOM]]) {
        setAttribute(this.cursor, name, String(number));
      }
    }
    setAttribute(this.svg, "aria-label", `${this.title} over the last minutes. Arrow keys read it second by second.`);
  }
}
