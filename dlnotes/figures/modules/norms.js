// Two samples of four channels of 2 × 2 numbers: a norm is chosen, a number is dragged, all outputs and gradients move.
import { element, hands, live, number, put, svg } from "./live.js";

// ---- the mathematics: cell i = 16 n + 4 c + p of sample n, channel c, place p

/** For each of the 32 cells the number of the set whose mean it shares. */
export const sets = (norm, groups = 1) => Array.from({ length: 32 }, (_, i) => {
  const n = i >> 4, c = (i >> 2) & 3, p = i & 3;
  const group = groups * n + Math.floor(c * groups / 4);
  return { batch: c, layer: n, place: 4 * n + p, instance: 4 * n + c, group, rms: n }[norm];
});

const mean = (list) => list.reduce((a, b) => a + b) / list.length;
/** What `of` makes of the numbers of a set, for the set of every cell. */
const gather = (list, ids, of) => {
  const known = {};
  return ids.map((id) => known[id] ??= of(list.filter((_, i) => ids[i] === id)));
};

/** Of every cell its set's μ (0 without centring) and σ² (mean square about μ), s = √(σ² + ε) and x̂ = (x − μ) / s. */
export function forward(x, ids, centred = true, eps = 1e-5) {
  const means = gather(x, ids, centred ? mean : () => 0), away = x.map((v, i) => v - means[i]);
  const variances = gather(away.map((v) => v * v), ids, mean), s = variances.map((v) => Math.sqrt(v + eps));
  return { ids, centred, means, variances, s, hats: away.map((v, i) => v / s[i]) };
}

/** ∂L/∂x, given g = ∂L/∂x̂: (g − mean(g) − x̂ · mean(g · x̂)) / s over each set; without centring no mean(g). */
export function backward(g, { ids, centred, s, hats }) {
  const shift = gather(g, ids, centred ? mean : () => 0), stretch = gather(g.map((v, i) => v * hats[i]), ids, mean);
  return g.map((v, i) => (v - shift[i] - hats[i] * stretch[i]) / s[i]);
}

/** The variance in float32, every result rounded: mean(x²) − μ² in one pass, mean((x − μ)²) in two. */
export function single(x) {
  const r = Math.fround, average = (list) => r(list.reduce((sum, v) => r(sum + v), 0) / list.length);
  const given = x.map(r), middle = average(given), squares = given.map((v) => r(v * v));
  return [r(average(squares) - r(middle * middle)), average(given.map((v) => r(r(v - middle) ** 2)))];
}

// ---- the picture

const FAR = 10000, INK = "color-mix(in srgb,var(--vermilion) 72%,currentColor)";
const NAMES = Array.from({ length: 32 }, (_, i) => `x${(i >> 4) + 1}${((i >> 2) & 3) + 1}${(i & 3) + 1}`);
const CHIP = "position:absolute;transform:translate(-50%,-50%);min-width:1.9em;min-height:24px;padding:1px 4px;"
  + "box-sizing:border-box;border:2px solid;border-radius:1em;background:var(--dln-paper);text-align:center;"
  + "touch-action:none;cursor:move;user-select:none;-webkit-user-select:none;font-variant-numeric:tabular-nums";
const short = (x, digits = 2) => number(Number(x.toFixed(digits)), 3);

function facts(values, own) {
  const x = NAMES.map((name) => values[name] + (values.far ? FAR : 0)), at = NAMES.indexOf(own.picked);
  const made = forward(x, sets(values.norm, Number(values.groups)), values.norm !== "rms");
  const grads = backward(x.map((_, i) => (i === at ? 1 : 0)), made);
  const lit = made.ids.map((id) => id === made.ids[at]), [one, two] = single(x.filter((_, i) => lit[i]));
  return { at, made, grads, lit, one, two, cells: lit.filter(Boolean).length, largest: Math.max(...made.hats) };
}

function build({ svg: root, box, nodes }, own) {
  const text = (style = "") => svg("text", { "text-anchor": "middle", style }, root);
  nodes.heads = Array.from({ length: 8 }, () => text("opacity:.8"));
  nodes.cells = NAMES.map((name) => {
    const back = svg("rect", { rx: 4, style: "stroke:var(--rule)" }, root);
    const bar = svg("rect", { style: `fill:${INK}` }, root);
    const chip = element("div", { style: CHIP, ...own.of(name) });
    box.append(chip);
    return { name, back, bar, chip, hat: text("font-weight:600"), slope: text(`fill:${INK}`) };
  });
}

function draw({ norms: { width, height, box, nodes, ...panel } }, { values }, { at, made, grads, lit }, own) {
  const narrow = width < 500, size = narrow ? "11px" : "14px";
  box.style.setProperty("--ratio", narrow ? 1.02 : 1.75);
  if (!nodes.cells) build({ box, nodes, ...panel }, own);
  const w = width / 8.9, h = height / 4.85, most = Math.max(...grads.map(Math.abs), 1e-9);
  const left = (i) => w * (2.3 * ((i >> 2) & 3) + (i & 1)), top = (i) => h * (0.38 + 2.42 * (i >> 4) + ((i >> 1) & 1));
  nodes.heads.forEach((node, k) => {
    put(node, { x: left(4 * k) + w, y: top(4 * k) - h * 0.12 });
    node.textContent = `n = ${(k >> 2) + 1},  c = ${(k & 3) + 1}`;
    node.style.fontSize = narrow ? "10px" : "13px";
  });
  nodes.cells.forEach(({ name, back, bar, chip, hat, slope }, i) => {
    const x = left(i) + w / 2, y = top(i), chosen = i === at;
    put(back, { x: left(i) + 1, y: y + 1, width: w - 2, height: h - 2 });
    back.style.fill = lit[i] ? "color-mix(in srgb,var(--sky) 30%,transparent)" : "transparent";
    back.style.strokeWidth = chosen ? 3 : 1;
    back.style.stroke = chosen ? "var(--vermilion)" : "var(--rule)";
    Object.assign(chip.style, { left: `${x}px`, top: `${y + h * 0.27}px`, fontSize: size });
    chip.style.borderColor = lit[i] ? "var(--blue)" : "var(--gray)";
    chip.textContent = short(values[name], 1);
    const said = `${short(values[name], 1)}, x̂ = ${short(made.hats[i])}, ∂ = ${short(grads[i], 3)}`;
    put(chip, { "aria-valuenow": values[name], "aria-valuetext": said });
    put(hat, { x, y: y + h * 0.66 });
    put(slope, { x, y: y + h * 0.87 });
    [hat.textContent, slope.textContent] = [short(made.hats[i]), lit[i] ? short(grads[i], 3) : "0"];
    [hat.style.fontSize, slope.style.fontSize] = narrow ? ["10.5px", "9.5px"] : ["13px", "13px"];
    const long = grads[i] / most * (w / 2 - 4);
    put(bar, { x: Math.min(x, x + long), y: y + h * 0.92, width: Math.abs(long), height: 3 });
  });
}

function describe({ values }, { at, made, grads, lit, one, two, cells }) {
  const others = grads.filter((_, i) => lit[i] && i !== at), rms = values.norm === "rms";
  const told = {
    n: (at >> 4) + 1, c: ((at >> 2) & 3) + 1, p: (at & 3) + 1, x: short(values[NAMES[at]], 1), cells,
    mean: short(made.means[at]), variance: short(made.variances[at]), hat: short(made.hats[at]),
    own: short(grads[at], 3), low: short(Math.min(...others), 3), high: short(Math.max(...others), 3),
    one: number(one), two: number(two),
  };
  const far = values.far ? rms ? ["level"] : ["passes", ...(one < 0 ? ["negative"] : [])] : [];
  return [rms ? "root" : "says", "slopes", ...far].map((word) => [word, told]);
}

export default {
  render({ model, el }) {
    const own = hands(el, "x114", { by: 0.5, fine: 0.1, along: (event) => (event.clientX - event.clientY) / 12 });
    return live({ model, el }, {
      panels: [{ name: "norms", ratio: 1.75 }],
      shown: ({ norm }) => [own.picked, "norm", norm === "group" ? "groups" : "", "far"],
      draw: (panels, state, found) => draw(panels, state, found, own),
      facts: (values) => facts(values, own),
      describe,
      legend: (given) => { Object.assign(own, given); return element("div"); },
    });
  },
};
