// A query at place t and a key k places on: the clock hands of both, and their score, added to and turned.
import { element, hands, live, number, put, stroke, svg } from "./live.js";

const LAST = 60, QUERY = [1, 0.5, -0.5, 1, 0.5, 1, 1, -0.5], KEY = [0.5, 1, 1, 0.5, 1, -0.5, 0.5, 1];

// ---- the mathematics

/** ω_i = base^(−2i/d), how far each of the d/2 hands turns from one place to the next. */
export const rates = (width, base) => Array.from({ length: width / 2 }, (_, i) => base ** (-2 * i / width));

/** PE(t): the sine and the cosine of each hand's angle. */
export const encode = (t, width, base) => rates(width, base).flatMap((rate) => [Math.sin(rate * t), Math.cos(rate * t)]);

/** Rotary positions: each pair of x turned by the hand's angle at t. */
export const turn = (x, t, base) => rates(x.length, base).flatMap((rate, i) => {
  const [cos, sin] = [Math.cos(rate * t), Math.sin(rate * t)], [even, odd] = [x[2 * i], x[2 * i + 1]];
  return [even * cos - odd * sin, even * sin + odd * cos];
});

const dot = (x, y) => x.reduce((sum, one, i) => sum + one * y[i], 0);

/** The score of a query at t with a key at t + k: of vectors with PE added, and of turned ones; over √d. */
export function scores(query, key, t, k, base) {
  const width = query.length, plus = (x, at) => encode(at, width, base).map((p, i) => p + x[i]);
  return {
    added: dot(plus(query, t), plus(key, t + k)) / Math.sqrt(width),
    turned: dot(turn(query, t, base), turn(key, t + k, base)) / Math.sqrt(width),
  };
}

const facts = ({ t, k, base }) => scores(QUERY, KEY, t, k, base);

// ---- the picture

const CHIP = "position:absolute;transform:translate(-50%,-50%);min-width:2.6em;min-height:28px;padding:1px 5px;border-radius:1em;"
  + "background:var(--dln-paper);text-align:center;touch-action:none;cursor:ew-resize;user-select:none;-webkit-user-select:none;"
  + "font-size:13px;line-height:28px;white-space:nowrap;border:2px solid ";
const INK = { t: "var(--blue)", k: "var(--vermilion)" };
const two = (x) => (Math.abs(x) < 0.005 ? 0 : x).toFixed(2).replace("-", "−");
const PLACE = (at) => 0.1 + 0.8 * (at + 12) / (LAST + 24);

function clocks({ svg: root, nodes, width, height, box }, { t, k, base }) {
  const narrow = width < 500, columns = narrow ? 2 : 4, cell = width / columns;
  box.style.setProperty("--ratio", narrow ? 1.15 : 2.7);
  const words = (style, anchor = "middle") => svg("text", { "text-anchor": anchor, style }, root);
  nodes.faces ??= rates(8, base).map(() => ({
    face: svg("circle", { style: "fill:none;stroke:currentColor;stroke-opacity:.3" }, root),
    arc: stroke(root, "stroke:currentColor;stroke-width:2;stroke-opacity:.5"),
    k: stroke(root, "stroke:var(--vermilion);stroke-width:3;stroke-dasharray:6 4"),
    t: stroke(root, "stroke:var(--blue);stroke-width:4"),
    heading: words("font-weight:600"), told: words("font-size:11px"),
  }));
  rates(8, base).forEach((rate, i) => {
    const { face, arc, heading, told, ...hand } = nodes.faces[i], rows = 4 / columns;
    const r = Math.min(0.36 * cell, (height / rows - 48) / 2);
    const x = (i % columns + 0.5) * cell, y = Math.floor(i / columns) * height / rows + 22 + r;
    const tip = (at, share) => `${x + share * r * Math.sin(rate * at)} ${y - share * r * Math.cos(rate * at)}`;
    put(face, { cx: x, cy: y, r });
    put(hand.t, { d: `M${x} ${y}L${tip(t, 0.97)}` });
    put(hand.k, { d: `M${x} ${y}L${tip(t + k, 0.97)}` });
    const angle = Math.abs(rate * k) % (2 * Math.PI);
    put(arc, { d: `M${tip(t, 0.4)}A${0.4 * r} ${0.4 * r} 0 ${Number(angle > Math.PI)} ${Number(k > 0)} ${tip(t + k, 0.4)}` });
    put(heading, { x, y: y - r - 7 });
    put(told, { x, y: y + r + 16 });
    heading.textContent = `ω = ${number(rate)}`;
    told.textContent = `sin ${two(Math.sin(rate * t))}   cos ${two(Math.cos(rate * t))}`;
  });
}

function curves({ svg: root, nodes, width, height, box }, { t, k, base }, own) {
  box.style.setProperty("--ratio", width < 500 ? 1.5 : 2.7);
  const X = (at) => PLACE(at) * width, Y = (score) => 0.4 * height - 0.15 * height * (score - 1), low = 0.86 * height;
  nodes.axis ??= stroke(root, "stroke:currentColor;stroke-opacity:.35");
  nodes.names ??= ["added", "turned"].map((name, i) => ({
    name, line: stroke(root, `stroke-width:2.5;stroke:${i ? "var(--green)" : "var(--purple)"}`),
    dot: svg("circle", { r: 5, style: `fill:${i ? "var(--green)" : "var(--purple)"}` }, root),
    words: svg("text", { style: "font-size:13px" }, root),
  }));
  nodes.chips ??= ["t", "k"].map((name) => {
    const chip = element("div", { style: CHIP + INK[name], ...own.of(name) });
    box.append(chip);
    return { name, chip };
  });
  put(nodes.axis, { d: `M${X(-12)} ${low}H${X(LAST + 12)}M${X(-12)} ${Y(0)}H${X(LAST + 12)}` });
  const now = scores(QUERY, KEY, t, k, base);
  nodes.names.forEach(({ name, line, dot: mark, words }, i) => {
    const steps = Array.from({ length: LAST + 1 }, (_, at) => `${X(at)} ${Y(scores(QUERY, KEY, at, k, base)[name])}`);
    put(line, { d: `M${steps.join("L")}` });
    put(mark, { cx: X(t), cy: Y(now[name]) });
    put(words, { x: X(-12), y: 16 + 17 * i });
    words.textContent = `━ ${own.text(name)} ${two(now[name])}`;
    words.style.fill = `color-mix(in srgb,var(--${i ? "green" : "purple"}) 70%,currentColor)`;
  });
  nodes.chips.forEach(({ name, chip }) => {
    const value = { t, k }[name], near = Math.abs(X(t + k) - X(t)) < 58;
    Object.assign(chip.style, {
      left: `${X(name === "t" ? t : t + k)}px`, borderWidth: name === own.picked ? "3px" : "2px",
      top: `${low + (near && name === "k" ? -34 : 0)}px`,
    });
    chip.textContent = name === "t" ? `t = ${t}` : `t ${k < 0 ? "−" : "+"} ${Math.abs(k)}`;
    put(chip, { "aria-valuenow": value, "aria-valuetext": number(value) });
  });
}

export default {
  render({ model, el }) {
    const own = hands(el, "t", {
      by: 1, fine: 1,
      along: (event, node) => event.clientX * (LAST + 24) / (0.8 * node.parentNode.getBoundingClientRect().width),
    });
    const whole = (values) => ({ ...values, t: Math.round(values.t), k: Math.round(values.k) });
    return live({ model, el }, {
      panels: [{ name: "clocks", ratio: 2.7 }, { name: "line", ratio: 2.7 }],
      shown: () => [own.picked, "base"],
      draw: (panels, { values }) => { clocks(panels.clocks, whole(values)); curves(panels.line, whole(values), own); },
      facts: (values) => facts(whole(values)),
      describe: ({ values }, found) => {
        const { t, k, base } = whole(values);
        return [["says", {
          t, s: t + k, k: number(k), added: two(found.added), turned: two(found.turned),
          turns: rates(8, base).map((rate) => number(rate * k)),
        }]];
      },
      legend: (given) => { Object.assign(own, given); return element("div"); },
    });
  },
};
