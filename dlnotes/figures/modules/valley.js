// A valley ½(u² + κ v²), turned by some degrees, and the optimizers of the course walking down it.
import { clamp, element, live, number, put, raised, stroke, svg, trace } from "./live.js";

// ---- the mathematics

export const METHODS = ["gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"];
const ARRIVED = 0.1;  // so near to the star counts as there

/** The directions along and across the valley: cosine and sine of its turn. */
const axes = (turn) => [Math.cos(turn * Math.PI / 180), Math.sin(turn * Math.PI / 180)];

/** ½(u² + κ v²), where u runs along the valley and v across it. */
export function loss({ kappa, turn }, x, y) {
  const [c, s] = axes(turn), u = c * x + s * y, v = c * y - s * x;
  return (u * u + kappa * v * v) / 2;
}

/** Its gradient, [∂/∂x, ∂/∂y]. */
export function gradient({ kappa, turn }, x, y) {
  const [c, s] = axes(turn), u = c * x + s * y, v = kappa * (c * y - s * x);
  return [c * u - s * v, s * u + c * v];
}

/** Standard normal numbers, the same ones for the same count (mulberry32, Box–Muller). */
export function normals(count) {
  let seed = 20;
  const uniform = () => {
    seed = (seed + 0x6D2B79F5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Float64Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/**
 * The points of a walk, [x₀, y₀, x₁, y₁, …]. Every method is θ ← θ − η m / σ with its own sums of gradients m and of
 * squares σ²; names and defaults are torch's: mu is momentum or β₁, beta is alpha or β₂.
 */
export function walk({ method, eta, mu, beta, decay, noise, x, y, steps, ...valley }) {
  const path = new Float64Array(2 * steps + 2), shaking = noise ? normals(2 * steps) : null;
  const mean = method === "adam" || method === "equation", divides = mean ? beta > 0 || method === "adam"
    : method === "adagrad" || method === "rmsprop";
  const a = mean || method === "momentum" || method === "nesterov" ? mu : 0, b = mean ? 1 - a : 1;
  const c = method === "adagrad" ? 1 : beta, d = method === "adagrad" ? 1 : 1 - beta;
  const tiny = method === "adagrad" ? 1e-10 : 1e-8;
  const theta = path.subarray(0, 2), m = [0, 0], s = [0, 0];
  theta.set([x, y]);
  let [px, py] = [x, y];
  for (let t = 1; t <= steps; t++) {
    const slope = gradient(valley, px, py), next = [px, py];
    const rate = decay ? eta * (1 + Math.cos(Math.PI * (t - 1) / steps)) / 2 : eta;
    for (let i = 0; i < 2; i++) {
      const g = slope[i] + (shaking ? noise * shaking[2 * t - 2 + i] : 0);
      m[i] = a * m[i] + b * g;
      let step = method === "nesterov" ? g + mu * m[i] : mean ? m[i] / (1 - a ** t) : m[i];
      if (divides) {
        s[i] = c * s[i] + d * g * g;
        step /= Math.sqrt(mean ? s[i] / (1 - c ** t) : s[i]) + tiny;
      }
      next[i] -= rate * step;
    }
    path.set([px, py] = next, 2 * t);
  }
  return path;
}

/** The learning rate at which a walk begins to diverge; null where no single number says it. */
export const edge = ({ method, mu, kappa }) =>
  ({ gd: 2, momentum: 2 * (1 + mu), nesterov: 2 * (1 + mu) / (1 + 2 * mu) })[method] / kappa || null;

/** The first step from which on the walk stays by the star; Infinity if it does not. */
export function arrival(path) {
  let step = path.length / 2;
  while (step > 0 && Math.hypot(path[2 * step - 2], path[2 * step - 1]) < ARRIVED) step--;
  return step < path.length / 2 ? step : Infinity;
}

/** Every walker of a setting: one, or all of a race with their own rates. */
export const walkers = (values) => values.method !== "race" ? [values]
  : METHODS.map((method, i) => ({
    ...values, method, eta: values.rates[i] * values.factor, mu: 0.9, beta: method === "adam" ? 0.999 : 0.9,
  }));

// ---- the picture

const HALF = 5.5, ASPECT = 1.25;  // what is seen: x to ±5.5, y to ±4.4
const LOW = -6, HIGH = 4;  // the loss, in powers of ten
const INKS = ["purple", "blue", "sky", "green", "orange", "vermilion"];
const DASHES = ["1 4", "8 3", "8 3 2 3", "5 3 1 3", "3 2", ""];

/** What is drawn and said of one walker; kept, since only what changed is walked again. */
function tour(values) {
  const path = walk(values), count = path.length / 2;
  const losses = Float64Array.from({ length: count }, (_, t) => loss(values, path[2 * t], path[2 * t + 1]));
  return { path, losses, arrival: arrival(path), diverges: !(losses[count - 1] < 100 * Math.max(losses[0], 1)) };
}
const remembered = new Map();
function recall(values) {
  const key = JSON.stringify(values);
  if (!remembered.has(key)) {
    if (remembered.size > 24) remembered.clear();
    remembered.set(key, tour(values));
  }
  return remembered.get(key);
}


function lines(group, count) {
  return Array.from({ length: count }, (_, i) => {
    const ink = count > 1 ? INKS[i] : "vermilion";
    return {
      halo: stroke(group, "stroke:var(--dln-paper);stroke-width:4;opacity:.6"),
      line: stroke(group, `stroke:var(--${ink});stroke-width:2;stroke-dasharray:${count > 1 ? DASHES[i] : ""}`),
      dots: stroke(group, `stroke:var(--${ink});stroke-width:5.5`),
      ball: svg("circle", { r: 6, style: `fill:var(--${ink});stroke:var(--dln-paper);stroke-width:2` }, group),
    };
  });
}

/** Every walker's line, and the trace of the setting before; `place` turns a tour into points of the panel. */
function tracks(nodes, { values, before, step }, tours, hidden, place) {
  const old = before && before.method !== "race" && JSON.stringify(before) !== JSON.stringify(values);
  nodes.before.setAttribute("d", old ? trace(before.steps + 1, Infinity, place(recall(before)), false)[0] : "");
  tours.forEach((one, i) => {
    const { halo, line, dots, ball } = nodes.lines[i], many = tours.length > 1;
    const [path, points, end] = hidden.has(METHODS[i]) && many ? ["", "", null]
      : trace(values.steps + 1, step, place(one), !many);
    line.setAttribute("d", path);
    if (!many) { halo.setAttribute("d", path); dots.setAttribute("d", points); }
    ball.style.display = end ? "" : "none";
    if (end) put(ball, { cx: clamp(end[0], -9, 2e3).toFixed(1), cy: clamp(end[1], -9, 2e3).toFixed(1) });
  });
}

function drawPlane(panel, state, tours, hidden) {
  const { values } = state, { width, height, nodes, svg: root } = panel, scale = width / (2 * HALF);
  const X = (x) => width / 2 + scale * x, Y = (y) => height / 2 - scale * y;
  if (nodes.count !== tours.length) {
    root.replaceChildren();
    nodes.count = tours.length;
    nodes.hills = svg("g", {}, root);
    nodes.numbers = svg("g", { opacity: 0.75 }, root);
    nodes.rings = Array.from({ length: 16 }, () => svg("ellipse", {
      style: "fill:var(--blue);fill-opacity:.035;stroke:currentColor;stroke-opacity:.28",
    }, nodes.hills));
    nodes.labels = [[-4, 0], [-2, 0], [2, 0], [4, 0], [0, -3], [0, 3]].map(([x, y]) => {
      const node = svg("text", { "text-anchor": y ? "start" : "middle" }, nodes.numbers);
      node.textContent = number(x || y);
      return [node, x, y];
    });
    nodes.before = stroke(root, "stroke:var(--gray);stroke-width:1.6;stroke-dasharray:4 3");
    nodes.star = svg("path", { d: "M0-9L2.3-3.1 8.6-2.8 3.7 1.2 5.3 7.3 0 3.8-5.3 7.3-3.7 1.2-8.6-2.8-2.3-3.1Z",
      style: "fill:currentColor;stroke:var(--dln-paper);stroke-width:1.5" }, root);
    nodes.lines = lines(root, tours.length);
  }
  const key = [values.kappa, values.turn, width].join();
  if (nodes.key !== key) hills(nodes, values, X, Y, scale, height);
  nodes.key = key;
  tracks(nodes, state, tours, hidden, ({ path }) => (t, point) => {
    point[0] = X(path[2 * t]);
    point[1] = Y(path[2 * t + 1]);
  });
}

/** Sixteen level curves, equally far apart, and what names the axes. */
function hills(nodes, values, X, Y, scale, height) {
  const [top, right] = [HALF / ASPECT, HALF], far = Math.max(loss(values, right, top), loss(values, right, -top));
  nodes.rings.forEach((ring, i) => {
    const radius = Math.sqrt(2 * far) * (i + 1) / 16 * scale;
    put(ring, { rx: radius, ry: radius / Math.sqrt(values.kappa) });
  });
  nodes.hills.setAttribute("transform", `translate(${X(0)} ${Y(0)}) rotate(${-values.turn})`);
  for (const [node, x, y] of nodes.labels) put(node, { x: X(x) + (y ? 6 : 0), y: x ? height - 6 : Y(y) + 4 });
  nodes.star.setAttribute("transform", `translate(${X(0)} ${Y(0)})`);
}

function drawCurve(panel, state, tours, hidden) {
  const { steps } = state, { width, height, nodes, svg: root } = panel;
  const [left, bottom, top, right] = [38, 24, 22, 8];
  const X = (t) => left + (width - left - right) * t / steps;
  const power = (value) => clamp(value > 0 ? Math.log10(value) : LOW - 9, LOW - 9, HIGH + 9);
  const Y = (value) => top + (height - top - bottom) * (HIGH - power(value)) / (HIGH - LOW);
  if (nodes.count !== tours.length) {
    root.replaceChildren();
    nodes.count = tours.length;
    nodes.grid = stroke(root, "stroke:var(--rule)");
    nodes.numbers = svg("g", { opacity: 0.75 }, root);
    nodes.title = svg("text", { x: 4, y: 14, style: "font-weight:600" }, root);
    const clip = `clip-${Math.random().toString(36).slice(2, 8)}`;
    nodes.clip = svg("rect", {}, svg("clipPath", { id: clip }, root));
    const inside = svg("g", { "clip-path": `url(#${clip})` }, root);
    nodes.before = stroke(inside, "stroke:var(--gray);stroke-width:1.6;stroke-dasharray:4 3");
    nodes.lines = lines(inside, tours.length);
    nodes.lines.forEach(({ halo, dots }) => { halo.remove(); dots.remove(); });
  }
  const key = [width, height, steps].join();
  if (nodes.key !== key) scale();
  nodes.key = key;
  tracks(nodes, state, tours, hidden, ({ losses }) => (t, point) => {
    point[0] = X(t);
    point[1] = Y(losses[t]);
  });
  function scale() {
    const powers = [4, 2, 0, -2, -4, -6];
    const write = (x, y, anchor, text) => {
      svg("text", { x, y, "text-anchor": anchor }, nodes.numbers).textContent = text;
    };
    nodes.grid.setAttribute("d", powers.map((p) => `M${left} ${Y(10 ** p).toFixed(1)}H${width - right}`).join(""));
    nodes.numbers.replaceChildren();
    for (const p of powers) write(left - 5, Y(10 ** p) + 4, "end", p ? `10${raised(p)}` : "1");
    ["start", "middle", "end"].forEach((anchor, i) => write(X(i * steps / 2), height - 7, anchor, number(i * steps / 2)));
    nodes.title.textContent = "f(θ)";
    put(nodes.clip, { x: left, y: top - 4, width: width - left - right + 6, height: height - top - bottom + 8 });
  }
}

// ---- the words

function facts(values) {
  const tours = walkers(values).map(recall), [first] = tours;
  return { arrival: first.arrival, diverges: first.diverges, loss: first.losses[values.steps], tours };
}

/** The edge, unless readers shall find it by themselves first. */
const told = (values) => values.reveal && edge(values);

function describe({ values, step, steps }, { tours }) {
  if (values.method === "race") {
    const named = METHODS.map((method, i) => [method, tours[i]]);
    const there = named.filter(([, { arrival }]) => arrival <= step).sort(([, a], [, b]) => a.arrival - b.arrival);
    const gone = named.filter(([, { diverges }]) => diverges && step >= steps);
    const late = named.filter((one) => !there.includes(one) && !gone.includes(one));
    const list = (group, tell) => group.map(([method, one]) => [`short ${method}`, tell(one)]);
    return [["there", there, ({ arrival }) => ` ${arrival}`], ["late", late, () => ""], ["gone", gone, () => ""]]
      .filter(([, group]) => group.length)
      .map(([word, group, tell]) => [word, { list: list(group, tell), step: Math.floor(step) }]);
  }
  const [{ path, losses, arrival, diverges }] = tours, t = Math.floor(step), limit = told(values);
  const place = { step: t, x: number(path[2 * t], 2), y: number(path[2 * t + 1], 2), loss: number(losses[t], 2) };
  if (step < steps) return [["where", place]];
  const sentences = [[diverges ? "diverged" : arrival <= steps ? "arrived" : "short", { ...place, arrival }]];
  if (limit) sentences.unshift([values.eta > limit ? "beyond" : "within", { eta: number(values.eta), edge: number(limit) }]);
  if (values.method === "gd" && values.reveal)
    sentences.push(["factors", { along: number(1 - values.eta, 3), across: number(1 - values.eta * values.kappa, 3) }]);
  return sentences;
}

/** Which controls a method has. */
function shown({ method }) {
  const none = {
    gd: ["mu", "beta"], momentum: ["beta"], nesterov: ["beta"], adagrad: ["mu", "beta"], rmsprop: ["mu"], adam: [],
    race: ["eta", "mu", "beta"], equation: [],
  }[method];
  const all = ["method", "eta", "mu", "beta", "kappa", "turn", "reveal"];
  const more = { race: ["factor"], equation: ["decay", "noise"] }[method] ?? [];
  return [...all, ...more].filter((name) => !none.includes(name));
}

export default {
  render({ model, el }) {
    const hidden = new Set();
    const legend = ({ redraw, text }) => {
      const row = element("div", { class: "row" });
      if (model.get("start").method !== "race") return row;
      METHODS.forEach((method, i) => {
        const swatch = svg("svg", { viewBox: "0 0 26 8", "aria-hidden": "true", style: "width:26px;height:8px" });
        svg("path", { d: "M1 4h24", style: `stroke:var(--${INKS[i]});stroke-width:3;stroke-dasharray:${DASHES[i]}` }, swatch);
        const button = element("button", { type: "button", "aria-pressed": "true", onclick: () => {
          if (!hidden.delete(method)) hidden.add(method);
          button.setAttribute("aria-pressed", !hidden.has(method));
          button.style.opacity = hidden.has(method) ? 0.55 : 1;
          redraw();
        } }, swatch, text(`short ${method}`));
        row.append(button);
      });
      return row;
    };
    return live({ model, el }, {
      panels: [
        {
          name: "plane", ratio: ASPECT,
          handle: {
            label: "start", now: "x", step: 0.1,
            get: ({ x, y }) => [(x + HALF) / (2 * HALF), (HALF / ASPECT - y) / (2 * HALF / ASPECT),
              `x = ${number(x)}, y = ${number(y)}`],
            set: (across, down) => ({ x: (2 * across - 1) * HALF, y: (1 - 2 * down) * HALF / ASPECT }),
            move: ({ x, y }, dx, dy) => ({ x: x + dx, y: y + dy }),
          },
        },
        { name: "curve", ratio: 0.83, small: true },
      ],
      steps: ({ steps }) => steps,
      draw: ({ plane, curve }, state, { tours }) => {
        drawPlane(plane, state, tours, hidden);
        drawCurve(curve, state, tours, hidden);
      },
      facts, describe, shown, legend,
      marks: (values) => { const limit = told(values); return limit ? { eta: [limit, "edge"] } : {}; },
    });
  },
};
