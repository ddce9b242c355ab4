// A batch of four numbers: each is dragged, all outputs and all gradients move.
import { element, hands, live, number, put, stroke, svg } from "./live.js";

// ---- the mathematics

/** μ, σ², s = √(σ² + ε) and x̂ = (x − μ) / s. */
export function forward(x, eps = 0) {
  const mean = x.reduce((a, b) => a + b) / x.length;
  const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length, s = Math.sqrt(variance + eps);
  return { mean, variance, s, hats: x.map((v) => (v - mean) / s) };
}

/** ∂L/∂x, given g = ∂L/∂x̂: (g − mean(g) − x̂ · mean(g · x̂)) / s. */
export function backward(g, { s, hats }) {
  const mean = (list) => list.reduce((a, b) => a + b) / list.length;
  const shift = mean(g), stretch = mean(g.map((v, i) => v * hats[i]));
  return g.map((v, i) => (v - shift - hats[i] * stretch) / s);
}

/** The variance in float32, every result rounded: mean(x²) − μ² in one pass, mean((x − μ)²) in two. */
export function single(x) {
  const r = Math.fround, mean = (list) => r(list.reduce((sum, v) => r(sum + v), 0) / list.length);
  const given = x.map(r), middle = mean(given);
  return [r(mean(given.map((v) => r(v * v))) - r(middle * middle)), mean(given.map((v) => r(r(v - middle) ** 2)))];
}

// ---- the picture

const NAMES = ["x1", "x2", "x3", "x4"], TOP = 20, FAR = 10000, EPS = 1e-5;
const INK = "color-mix(in srgb,var(--vermilion) 72%,currentColor)";
const CHIP = "position:absolute;transform:translate(-50%,-50%);min-width:1.9em;padding:1px 5px;border:2px solid var(--blue);"
  + "border-radius:1em;background:var(--dln-paper);text-align:center;touch-action:none;cursor:ew-resize;user-select:none;"
  + "-webkit-user-select:none;font-variant-numeric:tabular-nums";
const short = (x) => number(Number(x.toFixed(3)), 3);
const batch = (values) => NAMES.map((name) => values[name]);
// Where x and x̂ stand, in shares of the panel.
const LEFT = (x) => 0.06 + 0.44 * x / TOP, RIGHT = (hat) => 0.79 + 0.1 * hat, ROW = (i) => 0.2 + 0.19 * i;

function facts(values) {
  const x = batch(values), made = forward(x, EPS), [one, two] = single(x.map((v) => v + (values.far ? FAR : 0)));
  const grads = backward(NAMES.map((_, i) => (i + 1 === Number(values.asked) ? 1 : 0)), made);
  return { x, made, grads, one, two, largest: Math.max(...made.hats) };
}

function build({ svg: root, box, nodes }, own) {
  const text = (style = "", anchor = "middle") => svg("text", { "text-anchor": anchor, style }, root);
  nodes.band = svg("rect", { style: "fill:var(--sky);opacity:.25" }, root);
  nodes.axes = stroke(root, "stroke:currentColor;stroke-opacity:.35");
  nodes.middle = stroke(root, "stroke:var(--blue);stroke-width:2;stroke-dasharray:5 4");
  nodes.heads = [text(), text()];
  nodes.rows = NAMES.map((name) => {
    const value = element("div", { style: CHIP, ...own.of(name) });
    box.append(value);
    return {
      name, value, was: svg("circle", { r: 6, style: "fill:none;stroke:var(--gray)" }, root),
      dot: svg("circle", { r: 6, style: "fill:var(--blue)" }, root),
      poor: svg("circle", { r: 8, style: "fill:none;stroke:var(--vermilion);stroke-width:2" }, root),
      hat: text("font-weight:600"), slope: text(`fill:${INK}`), arrow: stroke(root, `stroke:${INK};stroke-width:3`),
    };
  });
}

function draw({ batch: panel }, { values, before }, { made, grads, one }, own) {
  const { width, height, box, nodes } = panel, narrow = width < 500;
  box.style.setProperty("--ratio", narrow ? 1.15 : 1.9);
  if (!nodes.rows) build(panel, own);
  const w = (share) => share * width, h = (share) => share * height, foot = h(0.93);
  const wall = (x, top = h(0.12)) => `M${x} ${top}V${foot}`, old = before ? forward(batch(before), EPS).hats : null;
  const inside = (x) => Math.min(Math.max(x, 0), TOP), ends = [-1, 1].map((sign) => w(LEFT(inside(made.mean + sign * made.s))));
  put(nodes.band, { x: ends[0], width: ends[1] - ends[0], y: h(0.12), height: foot - h(0.12) });
  put(nodes.middle, { d: wall(w(LEFT(made.mean))) + wall(w(RIGHT(0))) });
  put(nodes.axes, { d: [-1, 1].map((hat) => wall(w(RIGHT(hat)))).join("") + NAMES.map((_, i) =>
    `M${w(LEFT(0))} ${h(ROW(i))}H${w(LEFT(TOP))}M${w(RIGHT(-1.8))} ${h(ROW(i))}H${w(RIGHT(1.8))}`).join("") });
  nodes.heads.forEach((node, i) => {
    put(node, { x: w(i ? RIGHT(0) : LEFT(TOP / 2)), y: h(0.07) });
    node.textContent = i ? "x̂ = (x − μ) / σ" : `x${values.far ? " − 10,000" : ""},  μ = ${short(made.mean)},  σ = ${short(made.s)}`;
    node.style.fontSize = narrow ? "11px" : "14px";
  });
  const s = Math.sqrt(one + EPS), unit = 0.14 * made.s;  // an arrow is ∂L/∂x · σ long
  nodes.rows.forEach(({ name, value, was, dot, poor, hat, slope, arrow }, i) => {
    const y = h(ROW(i)), x = w(LEFT(values[name])), at = w(RIGHT(made.hats[i]));
    Object.assign(value.style, { left: `${x}px`, top: `${y}px`, fontSize: narrow ? "12px" : "14px" });
    value.textContent = short(values[name]);
    value.style.borderWidth = name === own.picked ? "3px" : "2px";
    put(value, { "aria-valuenow": values[name], "aria-valuetext": `${short(values[name])}, x̂ = ${short(made.hats[i])}, ∂L/∂x = ${short(grads[i])}` });
    put(dot, { cx: at, cy: y });
    put(was, { cx: old ? w(RIGHT(old[i])) : at, cy: y, visibility: old ? "visible" : "hidden" });
    const bad = (values[name] - made.mean) / s, seen = values.far && Math.abs(bad) < 2;
    put(poor, { cx: seen ? w(RIGHT(bad)) : 0, cy: y, visibility: seen ? "visible" : "hidden" });
    put(hat, { x: at, y: y - 11 });
    hat.textContent = short(made.hats[i]);
    put(slope, { x, y: y + (narrow ? 24 : 27) });
    slope.textContent = `∂ ${short(grads[i])}`;
    hat.style.fontSize = slope.style.fontSize = narrow ? "11px" : "13px";
    const tip = x + w(unit * grads[i]), size = Math.min(5, Math.abs(tip - x)) * Math.sign(tip - x), down = y + (narrow ? 29 : 33);
    put(arrow, { d: `M${x} ${down}H${tip}m${-size} -4l${size} 4l${-size} 4` });
  });
}

function describe({ values }, { x, made, grads, one, two }) {
  const list = (numbers) => numbers.map(short).join(", "), told = { one: number(one), two: number(two) };
  const sentences = [["says", { x: list(x), mean: short(made.mean), variance: short(made.variance), hats: list(made.hats) }]];
  sentences.push(made.variance ? ["slopes", { name: values.asked, grads: list(grads) }] : ["equal"]);
  if (values.far) sentences.push(["passes", told], ...(one < 0 ? [["negative"]] : []));
  return sentences;
}

export default {
  render({ model, el }) {
    const own = hands(el, "x1", {
      by: 0.5, fine: 0.1,
      along: (event, node) => event.clientX * TOP / (0.44 * node.parentNode.getBoundingClientRect().width),
    });
    return live({ model, el }, {
      panels: [{ name: "batch", ratio: 1.9 }],
      shown: () => [own.picked, "asked", "far"],
      draw: (panels, state, found) => draw(panels, state, found, own),
      facts,
      describe,
      legend: (given) => { Object.assign(own, given); return element("div"); },
    });
  },
};
