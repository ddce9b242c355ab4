// A network of two inputs, two hidden units and one output: values run forward, gradients run back.
import { element, hands, live, number, put, svg } from "./live.js";

// ---- the mathematics

/** z = W x + b, h = max(z, 0), y = v·h + c, L = ½ (y − t)². */
export function forward({ x1, x2, w11, w12, w21, w22, b1, b2, v1, v2, c, t }) {
  const z1 = w11 * x1 + w12 * x2 + b1, z2 = w21 * x1 + w22 * x2 + b2;
  const h1 = Math.max(z1, 0), h2 = Math.max(z2, 0), y = v1 * h1 + v2 * h2 + c;
  return { z1, z2, h1, h2, y, L: (y - t) ** 2 / 2 };
}

/** ∂L/∂ of everything, from right to left; each line uses only what the lines before it found. */
export function backward({ x1, x2, w11, w12, w21, w22, v1, v2, t }, { z1, z2, h1, h2, y }) {
  const d = { y: y - t, t: t - y };
  Object.assign(d, { c: d.y, v1: d.y * h1, v2: d.y * h2, h1: d.y * v1, h2: d.y * v2 });
  Object.assign(d, { z1: z1 > 0 ? d.h1 : 0, z2: z2 > 0 ? d.h2 : 0 });
  Object.assign(d, { b1: d.z1, b2: d.z2, w11: d.z1 * x1, w12: d.z1 * x2, w21: d.z2 * x1, w22: d.z2 * x2 });
  return Object.assign(d, { x1: d.z1 * w11 + d.z2 * w21, x2: d.z1 * w12 + d.z2 * w22 });
}

/** The ways from a number to the loss, each a list of [symbol, slope]; ∂L/∂name is the sum of their products. */
export function ways(name, values, made) {
  const error = ["(y − t)", made.y - values.t], [kind, i, j] = name;
  const through = (unit) => [error, [`v${unit}`, values[`v${unit}`]], [`[z${unit} > 0]`, made[`z${unit}`] > 0 ? 1 : 0]];
  if (kind === "t") return [[["(t − y)", values.t - made.y]]];
  if (kind === "c") return [[error]];
  if (kind === "v") return [[error, [`h${i}`, made[`h${i}`]]]];
  if (kind === "b") return [through(i)];
  if (kind === "w") return [[...through(i), [`x${j}`, values[`x${j}`]]]];
  return [1, 2].map((unit) => [...through(unit), [`w${unit}${i}`, values[`w${unit}${i}`]]]);
}

// ---- the picture

// Where everything stands, in shares of the panel, and the steps at which its value and its gradient appear.
const PLACES = {
  x1: [0.085, 0.25, 0, 8], x2: [0.085, 0.75, 0, 8], w11: [0.285, 0.25, 0, 8], w21: [0.21, 0.41, 0, 8],
  w12: [0.21, 0.59, 0, 8], w22: [0.285, 0.75, 0, 8], b1: [0.47, 0.065, 0, 8], b2: [0.47, 0.935, 0, 8],
  v1: [0.625, 0.39, 0, 6], v2: [0.625, 0.61, 0, 6], c: [0.755, 0.79, 0, 6], t: [0.92, 0.79, 0, 5],
  z1: [0.47, 0.25, 1, 7], z2: [0.47, 0.75, 1, 7], h1: [0.47, 0.25, 2, 6], h2: [0.47, 0.75, 2, 6],
  y: [0.755, 0.5, 3, 5], L: [0.92, 0.5, 4, 5],
};
const WEIGHTS = ["w11", "w12", "b1", "w21", "w22", "b2", "v1", "v2", "c"], GIVEN = [...WEIGHTS, "x1", "x2", "t"];
// Each line: where from, where to, on whose ways to the loss it lies, and the steps in which it carries something.
const LINES = [
  ["x1", "z1", "x1 w11", 0, 7], ["x2", "z1", "x2 w12", 0, 7], ["x1", "z2", "x1 w21", 0, 7], ["x2", "z2", "x2 w22", 0, 7],
  ["b1", "z1", "b1", 0, 7], ["b2", "z2", "b2", 0, 7], ["h1", "y", "x1 x2 w11 w12 b1 v1", 2, 5],
  ["h2", "y", "x1 x2 w21 w22 b2 v2", 2, 5], ["c", "y", "c", 2, 5],
  ["y", "L", "x1 x2 w11 w12 w21 w22 b1 b2 v1 v2 c", 3, 4], ["t", "L", "t", 3, 4],
];
const RATE = 0.02;
const CHIP = "position:absolute;transform:translate(-50%,-50%);padding:1px 4px;border:1px solid var(--rule);border-radius:7px;"
  + "background:var(--dln-paper);line-height:1.3;text-align:center;white-space:nowrap;touch-action:none;"
  + "cursor:ew-resize;user-select:none;-webkit-user-select:none;font-variant-numeric:tabular-nums";
const INK = "color-mix(in srgb,var(--vermilion) 72%,currentColor)", GRADIENT = `color:${INK};fill:${INK}`;

const short = (x) => number(Number(x.toFixed(2)), 4);
const sub = (text) => text.replace(/([a-z])(\d+)/g, (_, letter, digits) => letter + [...digits].map((digit) => "₀₁₂"[digit]).join(""));

function build({ svg: root, box, nodes }, own) {
  nodes.lines = LINES.map(() => svg("path", { style: "stroke:currentColor;fill:none" }, root));
  nodes.dots = LINES.map(() => svg("circle", { r: 5 }, root));
  nodes.boxes = ["z1", "z2", "y", "L"].map((name) => [name, svg("rect", {
    rx: 9, style: "fill:var(--dln-paper);stroke:currentColor;stroke-width:1.5",
  }, root)]);
  nodes.texts = ["z1", "h1", "z2", "h2", "y", "L"].map((name) => [name, ...["", GRADIENT].map((style) =>
    svg("text", { "text-anchor": "middle", style }, root))]);
  nodes.chips = GIVEN.map((name) => {
    const [, , , last] = PLACES[name], value = element("div"), slope = element("div", { style: GRADIENT });
    const chip = element("div", { style: CHIP, ...own.of(name) }, value, slope);
    chip.style.left = `${100 * PLACES[name][0]}%`;
    chip.style.top = `${100 * PLACES[name][1]}%`;
    box.append(chip);
    return { name, chip, value, slope, last };
  });
}

function draw({ graph: panel }, { values, before, step }, { made, grads }, own) {
  const { width, height, box, nodes } = panel, narrow = width < 560;
  box.style.setProperty("--ratio", narrow ? 1 : 1.9);
  if (!nodes.lines) build(panel, own);
  const now = { ...values, ...made }, then = before ?? values, madeThen = forward(then);
  const old = { ...then, ...madeThen }, gradsThen = backward(then, madeThen);
  const at = (name) => [PLACES[name][0] * width, PLACES[name][1] * height];
  LINES.forEach(([from, to, on, ahead, back], i) => {
    const [x, y] = at(from), [u, v] = at(to), way = on.split(" ").includes(own.picked);
    put(nodes.lines[i], { d: `M${x} ${y}L${u} ${v}`, "stroke-width": way ? 4 : 1.3, "stroke-opacity": way ? 0.75 : 0.4 });
    const done = step - ahead, undone = step - back, running = done > 0 && done < 1 ? done : undone > 0 && undone < 1 ? 1 - undone : -1;
    put(nodes.dots[i], {
      cx: x + running * (u - x), cy: y + running * (v - y), visibility: running < 0 ? "hidden" : "visible",
      style: `fill:var(--${done < 1 ? "blue" : "vermilion"})`,
    });
  });
  for (const [name, rect] of nodes.boxes) {
    const [x, y] = at(name), w = (narrow ? 52 : 88) + (name[0] === "z" ? (narrow ? 7 : 42) : 0), h = name[0] === "z" ? (narrow ? 66 : 42) : name === "L" ? 22 : 36;
    put(rect, { x: x - w / 2, y: y - h / 2, width: w, height: h, "stroke-dasharray": made[name] <= 0 && name[0] === "z" ? "4 3" : "" });
  }
  const values_ = (name) => (step >= PLACES[name][2] ? `${sub(name)}${narrow ? "=" : " = "}${name === "L" ? number(now.L, 2) : short(now[name])}` : sub(name));
  const slopes = (name) => (step >= PLACES[name][3] && name !== "L" ? `∂ ${short(grads[name])}` : "");
  const weight = (a, b) => (a !== b ? 700 : 400);
  for (const [name, value, slope] of nodes.texts) {
    const [x, y] = at(name), one = name === "y" ? -4 : 4, rows = { z: [-20, -6], h: [11, 25] }[name[0]] ?? [one, 12];
    const places = narrow || !"zh".includes(name[0]) ? rows.map((dy) => [x, y + dy])
      : [-29, 37].map((dx) => [x + dx, y + (name[0] === "z" ? -5 : 14)]);
    [value, slope].forEach((node, i) => put(node, { x: places[i][0], y: places[i][1] }));
    value.textContent = values_(name);
    slope.textContent = slopes(name);
    value.style.fontSize = slope.style.fontSize = narrow ? "11px" : "13px";
    value.style.fontWeight = weight(now[name], old[name]);
    slope.style.fontWeight = weight(grads[name], gradsThen[name]);
  }
  for (const { name, chip, value, slope } of nodes.chips) {
    value.textContent = values_(name);
    slope.textContent = slopes(name) || "\u00a0";
    value.style.fontWeight = weight(now[name], old[name]);
    slope.style.fontWeight = weight(grads[name], gradsThen[name]);
    chip.style.fontSize = narrow ? "11px" : "13px";
    chip.style.borderColor = name === own.picked ? "currentColor" : "";
    put(chip, { "aria-valuenow": values[name], "aria-valuetext": `${short(values[name])}, ∂L/∂${sub(name)} = ${short(grads[name])}` });
  }
}

// ---- the words

function facts(values) {
  const made = forward(values), grads = backward(values, made);
  const off = (made.z1 <= 0) + (made.z2 <= 0), size = Math.hypot(...WEIGHTS.map((name) => grads[name]));
  return { made, grads, off, loss: made.L, size };
}

function describe({ values, step, steps }, { made, grads, off }, picked) {
  const all = { ...values, ...made }, told = {};
  for (const name in all) told[name] = name === "L" ? number(all.L, 2) : short(all[name]);
  for (const name in grads) told[`d${name}`] = short(grads[name]);
  if (step < steps) return [[`step ${Math.floor(step)}`, told]];
  const signed = (x) => (x < 0 ? `(${short(x)})` : short(x)), paths = ways(picked, values, made);
  const [symbols, numbers] = [0, 1].map((i) => paths.map((path) => path.map((factor) =>
    (i ? signed(factor[1]) : sub(factor[0]))).join(" · ")).join(" + "));
  const sentences = [["sum", told], ["way", {
    name: sub(picked), symbols, numbers, grad: short(grads[picked]), nudge: number(grads[picked] / 100, 2),
  }]];
  if (off) sentences.push([off > 1 ? "both off" : made.z1 > 0 ? "off 2" : "off 1"]);
  return sentences;
}

export default {
  render({ model, el }) {
    const own = hands(el, "w11", { by: 0.1, fine: 0.01, along: (event) => (event.clientX - event.clientY) / 60 });
    const descend = () => {
      const grads = own.grads;
      own.tell(WEIGHTS[0], "pointerdown");  // all nine move as one, so what stood there before is that of all
      for (const name of WEIGHTS) own.set(name, own.input(name).valueAsNumber - RATE * grads[name]);
      own.tell(WEIGHTS[0], "pointerup", "change");
    };
    return live({ model, el }, {
      panels: [{ name: "graph", ratio: 1.9 }],
      steps: () => 8,
      seconds: 10,
      shown: () => [own.picked],
      draw: (panels, state, found) => draw(panels, state, found, own),
      facts: (values) => { const found = facts(values); own.grads = found.grads; return found; },
      describe: (state, found) => describe(state, found, own.picked),
      legend: ({ redraw, text }) => {
        Object.assign(own, { redraw, text });
        return element("div", { class: "row" }, element("button", { type: "button", onclick: descend }, text("descend")));
      },
    });
  },
};
