// A 3 × 3 kernel as nine heads: each head looks at one shift, and its weight multiplies what it sees.
import { element, hands, live, number, put, svg } from "./live.js";

// ---- the mathematics

export const SIDE = 8, WIDE = SIDE + 2;  // the image, and the image with a border of zeros
/** A four of scikit-learn's digits, 0 to 16. */
export const IMAGE = [
  0, 0, 0, 1, 11, 0, 0, 0, 0, 0, 0, 7, 8, 0, 0, 0, 0, 0, 1, 13, 6, 2, 2, 0, 0, 0, 7, 15, 0, 9, 8, 0,
  0, 5, 16, 10, 0, 16, 6, 0, 0, 4, 15, 16, 13, 16, 1, 0, 0, 0, 0, 3, 15, 10, 0, 0, 0, 0, 0, 2, 16, 4, 0, 0,
].map((v) => v / 16);
const range = (n) => Array.from({ length: n }, (_, i) => i);
export const SHIFTS = range(9).map((h) => [Math.floor(h / 3) - 1, h % 3 - 1]);

/** The image with a border of zeros, a row after the other. */
export const pad = (image) => range(WIDE * WIDE).map((j) => {
  const r = Math.floor(j / WIDE) - 1, c = j % WIDE - 1;
  return Math.min(r, c) < 0 || Math.max(r, c) >= SIDE ? 0 : image[r * SIDE + c];
});

/** Weights of the query at (r, c) over all keys: softmax of −α‖δ − Δ‖², δ from the query to the key. */
export function weights(r, c, [down, right], alpha) {
  const scores = range(WIDE * WIDE).map((j) =>
    -alpha * ((Math.floor(j / WIDE) - 1 - r - down) ** 2 + (j % WIDE - 1 - c - right) ** 2));
  const top = Math.max(...scores), powers = scores.map((s) => Math.exp(s - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((p) => p / sum);
}

/** Σ over heads of w · (what the head sees on average); the head `cut` (1 to 9) is left out. */
export function attention(image, kernel, alpha, cut = 0) {
  const x = pad(image);
  return image.map((_, i) => SHIFTS.reduce((sum, shift, h) => {
    if (h + 1 === cut || !kernel[h]) return sum;
    const a = weights(Math.floor(i / SIDE), i % SIDE, shift, alpha);
    return sum + kernel[h] * a.reduce((seen, p, j) => seen + p * x[j], 0);
  }, 0));
}

/** The same kernel, slid over the image: torch's conv2d with padding 1. */
export function convolution(image, kernel) {
  const x = pad(image);
  return image.map((_, i) => SHIFTS.reduce((sum, [down, right], h) =>
    sum + kernel[h] * x[(Math.floor(i / SIDE) + 1 + down) * WIDE + i % SIDE + 1 + right], 0));
}

// ---- the picture

const NAMES = range(9).map((h) => `w${h + 1}`), TOP = 2, SPAN = 5;  // a head's map: 5 × 5 around the query
const CHIP = "position:absolute;transform:translate(-50%,-50%);min-width:2.6em;padding:1px 4px;border:2px solid var(--blue);"
  + "border-radius:1em;background:var(--dln-paper);text-align:center;touch-action:none;cursor:ew-resize;user-select:none;"
  + "-webkit-user-select:none;font-variant-numeric:tabular-nums;font-size:13px";
const INK = (v) => (v < 0 ? "var(--vermilion)" : "var(--blue)");
const short = (x) => number(Number(x.toFixed(2)), 3);

function facts(values) {
  const kernel = NAMES.map((name) => values[name]), cut = Number(values.cut) || 0;
  const ours = attention(IMAGE, kernel, values.alpha, cut), theirs = convolution(IMAGE, kernel);
  const own = weights(3, 3, [0, 0], values.alpha);
  const difference = Math.max(...ours.map((v, i) => Math.abs(v - theirs[i])));
  return { kernel, cut, ours, theirs, difference, mass: Math.max(...own) };
}

const cells = (root, n) => range(n).map(() => svg("rect", { style: "stroke:var(--rule);stroke-width:.5" }, root));

function build({ svg: root, box, nodes }, own) {
  nodes.maps = NAMES.map(() => cells(root, SPAN * SPAN));
  nodes.frames = NAMES.map(() => svg("rect", { fill: "none" }, root));
  nodes.chips = NAMES.map((name) => element("div", { style: CHIP, ...own.of(name) }));
  box.append(...nodes.chips);
}

function drawHeads(panel, { values }, { kernel, cut }, own) {
  const { width, height, nodes } = panel;
  if (!nodes.chips) build(panel, own);
  const unit = Math.min(width, height) / 3, left = (width - 3 * unit) / 2, cell = 0.78 * unit / SPAN;
  NAMES.forEach((name, h) => {
    const x = left + (h % 3 + 0.11) * unit, y = (Math.floor(h / 3) + 0.03) * unit, off = h + 1 === cut;
    const a = weights(3, 3, SHIFTS[h], values.alpha);
    nodes.maps[h].forEach((node, k) => {
      const r = Math.floor(k / SPAN), c = k % SPAN, share = a[(r + 2) * WIDE + c + 2];
      put(node, { x: x + c * cell, y: y + r * cell, width: cell, height: cell });
      Object.assign(node.style, { fill: off ? "var(--gray)" : INK(kernel[h]), fillOpacity: off ? 0.1 : share });
    });
    put(nodes.frames[h], { x: x + 2 * cell, y: y + 2 * cell, width: cell, height: cell });
    Object.assign(nodes.frames[h].style, { stroke: "currentColor", strokeWidth: 1.5 });
    const chip = nodes.chips[h];
    Object.assign(chip.style, {
      left: `${x + 2.5 * cell}px`, top: `${y + 5 * cell + 2}px`, borderColor: INK(kernel[h]),
      borderWidth: name === own.picked ? "3px" : "2px", textDecoration: off ? "line-through" : "none",
    });
    chip.textContent = short(kernel[h]);
    put(chip, { "aria-valuenow": kernel[h], "aria-valuetext": short(kernel[h]) });
  });
}

function drawPictures({ svg: root, nodes, width, height }, { ours, theirs }) {
  nodes.pictures ??= range(3).map(() => ({ cells: cells(root, SIDE * SIDE), head: svg("text", { "text-anchor": "middle" }, root) }));
  const gap = 0.02 * width, side = Math.min((width - 4 * gap) / 3, height - 24), cell = side / SIDE;
  const top = Math.max(1, ...theirs.map(Math.abs));
  [["x", IMAGE, 1], ["attention", ours, top], ["conv2d", theirs, top]].forEach(([name, image, scale], p) => {
    const left = width / 2 + (p - 1) * (side + gap) - side / 2, { cells: nodesOf, head } = nodes.pictures[p];
    put(head, { x: left + side / 2, y: 14 });
    head.textContent = name;
    nodesOf.forEach((node, i) => {
      put(node, { x: left + i % SIDE * cell, y: 20 + Math.floor(i / SIDE) * cell, width: cell, height: cell });
      Object.assign(node.style, { fill: INK(image[i]), fillOpacity: Math.min(1, Math.abs(image[i]) / scale) });
    });
  });
}

export default {
  render({ model, el }) {
    const own = hands(el, "w5", {
      by: 0.1, fine: 0.01,
      along: (event, node) => 3 * event.clientX / node.parentNode.getBoundingClientRect().width * TOP,
    });
    return live({ model, el }, {
      panels: [{ name: "heads", ratio: 1.15 }, { name: "pictures", ratio: 2.4 }],
      shown: () => [own.picked, "alpha", "cut"],
      draw: (panels, state, found) => {
        drawHeads(panels.heads, state, found, own);
        drawPictures(panels.pictures, found);
      },
      facts,
      describe: (_, { difference, mass, cut }) => [
        ["says", { difference: number(difference), mass: number(100 * mass) }], ...(cut ? [["lost", { cut }]] : []),
      ],
      legend: (given) => { Object.assign(own, given); return element("div"); },
    });
  },
};
