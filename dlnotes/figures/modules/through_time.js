// Up to sixteen tokens: how much gradient of the last one's answer still reaches the one that is picked, in an RNN,
// through a gate, by attention.
import { clamp, element, hands, live, number, put, raised, stroke, svg } from "./live.js";

// ---- the mathematics

export const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** What is left after 0, 1, …, k steps back of a chain that multiplies by `factor`. */
export const chain = (factor, k) => Array.from({ length: k + 1 }, (_, i) => factor ** i);

/** The weight of one token with score `score` among n, when the others have score 0. */
export const weight = (score, n) => 1 / (1 + (n - 1) * Math.exp(-score));

/** Which token is picked, how far it is from the last, and what reaches it in the three. */
export function reach({ n, token, w, bias, score }) {
  const length = Math.round(n), at = clamp(Math.round(token), 1, length - 1), distance = length - at;
  const keep = sigmoid(bias), rnn = chain(w, distance), gate = chain(keep, distance);
  return { length, at, distance, keep, chains: [rnn, gate], rnn: rnn[distance], gate: gate[distance], attention: weight(score, length) };
}

// ---- the picture

const INKS = ["var(--vermilion)", "var(--green)", "var(--blue)"], LANES = [0.34, 0.6, 0.93], TOKENS = 0.1;
const HANDLE = "position:absolute;width:44px;height:44px;margin:-22px;border-radius:50%;touch-action:none;cursor:ew-resize";
const column = (i, length, width) => (i - 0.5) / length * (width - 24) + 12;
const power = (base, k) => (base < 0 ? `(${number(base)})` : number(base)) + raised(k);

function build({ svg: root, box, nodes }, own) {
  nodes.dots = svg("g", {}, root);
  nodes.arrows = svg("g", {}, root);
  nodes.arc = stroke(root, `stroke:${INKS[2]}`);
  nodes.heads = INKS.map(() => svg("text", { x: 8, style: "font-weight:600" }, root));
  nodes.handle = element("div", { style: HANDLE, ...own.of("token") });
  box.append(nodes.handle);
  box.addEventListener("click", ({ clientX }) => {
    const { left, width } = box.getBoundingClientRect();
    own.set("token", own.place(clientX - left, width));
    own.tell("token", "change");
  });
}

function draw({ tokens: panel }, { values }, { length, at, distance, keep, chains, rnn, gate, attention }, own) {
  const { width, height, nodes, box, svg: root } = panel, narrow = width < 500;
  box.style.setProperty("--ratio", narrow ? 1.25 : 2.1);
  own.length = length;
  if (!nodes.handle) build(panel, own);
  const x = (i) => column(i, length, width), y = (share) => share * height, wide = (width - 24) / length;
  const top = y(TOKENS), size = Math.min(wide - 3, 30);
  nodes.dots.replaceChildren();
  nodes.arrows.replaceChildren();
  for (let i = 1; i <= length; i++) {
    const ends = i === at || i === length;
    svg("rect", {
      x: x(i) - size / 2, y: top - size / 2, width: size, height: size, rx: 4,
      style: `fill:${ends ? "currentColor" : "none"};fill-opacity:.16;stroke:currentColor;stroke-opacity:${ends ? 1 : 0.4};stroke-width:${ends ? 2 : 1}`,
    }, nodes.dots);
    svg("text", { x: x(i), y: top + 4, "text-anchor": "middle", style: `font-size:${narrow ? 10 : 12}px` }, nodes.dots)
      .textContent = i;
    LANES.forEach((lane, which) => {
      const left = which < 2 && i >= at ? Math.abs(chains[which][length - i]) : ends ? (i === at ? attention : 1) : 0;
      svg("circle", { cx: x(i), cy: y(lane), r: 4, style: `fill:${INKS[which]};fill-opacity:${Math.min(left, 1)};stroke:${INKS[which]};stroke-opacity:.55` },
        nodes.dots);
    });
  }
  chains.forEach((left, which) => {
    for (let k = 1; k <= distance; k++) {
      const share = Math.min(Math.abs(left[k]), 1), from = x(length - k + 1) - 6, to = x(length - k) + 6, h = y(LANES[which]);
      const head = Math.min(4, (from - to) / 2);
      put(stroke(nodes.arrows, `stroke:${INKS[which]};opacity:${0.07 + 0.93 * share}`),
        { d: `M${from} ${h}H${to}m${head} ${-head}l${-head} ${head}l${head} ${head}`, "stroke-width": 1 + 4 * share });
    }
  });
  const low = y(LANES[2]) - 6, high = low - 0.15 * height * Math.min(1, 0.4 + distance / 15);
  put(nodes.arc, {
    d: `M${x(length)} ${low}Q${(x(length) + x(at)) / 2} ${2 * high - low} ${x(at)} ${low}m-1 -7l1 7l7 -2`,
    "stroke-width": 1 + 4 * attention, style: `stroke:${INKS[2]};opacity:${0.07 + 0.93 * attention}`,
  });
  const told = [`${power(values.w, distance)} = ${number(rnn)}`, `${power(keep, distance)} = ${number(gate)}`, number(attention)];
  nodes.heads.forEach((node, which) => {
    put(node, { y: y([0.24, 0.5, 0.7][which]) });
    node.style.fontSize = narrow ? "11px" : "13px";
    node.textContent = `${own.text(["rnn", "gru", "looks"][which])} ${told[which]}`;
  });
  Object.assign(nodes.handle.style, { left: `${x(at)}px`, top: `${top}px` });
  put(nodes.handle, { "aria-valuenow": at, "aria-valuetext": `${at}: ${told.map((text) => text.split("= ").pop()).join(", ")}` });
}

// ---- the words

function describe(_, { length, at, distance, rnn, gate, attention }) {
  const size = Math.abs(rnn);
  return [["says", { at, length, distance, rnn: number(rnn), gate: number(gate), attention: number(attention) }],
    [size < 0.01 ? "vanished" : size > 100 ? "exploded" : "arrives"]];
}

export default {
  render({ model, el }) {
    const own = hands(el, "token", {
      by: 1, fine: 1,
      along: (event, node) => own.place(event.clientX, node.parentNode.getBoundingClientRect().width),
    });
    own.place = (x, width) => (x - 12) / (width - 24) * own.length + 0.5;
    return live({ model, el }, {
      panels: [{ name: "tokens", ratio: 2.1 }],
      shown: () => ["n", "w", "bias", "score"],
      draw: (panels, state, found) => draw(panels, state, found, own),
      facts: reach,
      describe,
      legend: (given) => { Object.assign(own, given); return element("div"); },
    });
  },
};
