// A sentence of up to eight words, whom each of them looks at, and what it answers: one head, no positions.
import { clamp, element, hands, live, number, put, svg } from "./live.js";

const MOST = 8, NAMES = Array.from({ length: MOST }, (_, i) => `word${i + 1}`), WORDS = 24;

// ---- the mathematics

/** The sentence that eight settings hold: a word's number from 1, and 0 for an empty place. */
export const sentence = (values) =>
  NAMES.map((name) => Math.round(values[name])).filter((one) => one > 0).map((one) => one - 1);

/** softmax(q·k / √d) and the values so averaged; of the tables a row of q and of k, and a number v, is each word's. */
export function attend(words, { queries, keys, values, scaled }) {
  const d = queries.length / WORDS, scale = scaled ? 1 / Math.sqrt(d) : 1;
  const weights = words.map((i) => {
    const scores = words.map((j) => {
      let sum = 0;
      for (let c = 0; c < d; c++) sum += queries[i * d + c] * keys[j * d + c];
      return sum * scale;
    });
    const top = Math.max(...scores), powers = scores.map((s) => Math.exp(s - top));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / sum);
  });
  return { weights, answers: weights.map((row) => row.reduce((sum, a, j) => sum + a * values[words[j]], 0)) };
}

/** −Σ a ln a: 0 where all weight lies on one word, ln N where it is spread over all. */
export const entropy = (row) => row.reduce((sum, a) => (a > 0 ? sum - a * Math.log(a) : sum), 0);

/** The words of a text, and what is none: `names` holds the word of each number. */
export function parse(text, names) {
  const found = [], unknown = [];
  for (const piece of text.toLowerCase().match(/[a-z]+|[公母小]?[\u4e00-\u9fff]/g) ?? []) {
    const word = names.findIndex((name) => name.split(" · ").includes(piece));
    if (word < 0) unknown.push(piece);
    else found.push(word);
  }
  return [found, unknown];
}

const young = (word) => word % 3 === 0;
const family = (word) => Math.floor(word / 3);

function facts(values) {
  const words = sentence(values), made = attend(words, values), last = words.length - 1;
  const asked = words.filter(young).length;
  const parents = words.map((word) => words.flatMap((other, j) =>
    (young(word) && !young(other) && family(other) === family(word) ? [j] : [])));
  const right = (i, j) => made.answers[i] * (words[j] % 3 === 1 ? 1 : -1) > 0.5;
  return {
    ...made, words,
    asked,
    entropy: made.weights.reduce((sum, row, i) => sum + (young(words[i]) ? entropy(row) : 0), 0) / asked,
    tie: words.some((_, i) => parents[i].length > 0 && Math.abs(made.answers[i]) < 0.25),
    far: last >= 5 && [[0, last], [last, 0]].some(([i, j]) => parents[i].length === 1 && parents[i][0] === j && right(i, j)),
  };
}

// ---- the picture

const ROW = 44, TOP = 22;
const CHIP = "position:absolute;left:2px;width:33%;height:38px;padding:0 2px;border:1px solid var(--rule);border-radius:7px;"
  + "background:var(--dln-paper);font-size:13px;line-height:1.25;touch-action:none;cursor:grab";
const signed = (x) => (Math.abs(x) < 0.005 ? "0" : (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2));
const share = (a) => (a < 0.995 ? a.toFixed(2).replace(/^0/, "") : "1");
const two = (x) => (Number.isFinite(x) ? x.toFixed(2) : "–");
const middle = (i) => TOP + (i + 0.5) * ROW;

function draw({ words: panel, weights: grid }, { values }, { words, weights, answers }, own) {
  const count = words.length, { width, nodes, box, svg: root } = panel;
  box.style.setProperty("--ratio", width / (TOP + Math.max(count, 3) * ROW));
  nodes.chips ??= [];
  while (nodes.chips.length > count) nodes.chips.pop().remove();
  while (nodes.chips.length < count) {
    const chip = element("button", { type: "button", style: CHIP, ...own.of(() => nodes.chips.indexOf(chip)) });
    nodes.chips.push(chip);
    box.append(chip);
  }
  own.chips = nodes.chips;
  own.picked = clamp(own.picked, 0, Math.max(count - 1, 0));
  nodes.chips.forEach((chip, i) => {
    const now = i === own.picked, answer = young(words[i]) ? `→ ${signed(answers[i])}` : "";
    chip.replaceChildren(element("b", { style: `font-weight:${young(words[i]) ? 700 : 400}` }, own.word(words[i])),
      ...(answer ? [element("br"), answer] : []));
    chip.style.top = `${TOP + i * ROW + 3}px`;
    chip.style.boxShadow = now ? "0 0 0 2px var(--blue)" : "";
    put(chip, { "aria-label": `${i + 1}: ${own.word(words[i])}${young(words[i]) ? `, ${answer}` : ""}`, "aria-pressed": now });
  });
  root.replaceChildren();
  const text = (x, y, content, style = "", anchor = "start", to = root) => {
    svg("text", { x, y, "text-anchor": anchor, style }, to).textContent = content;
  };
  [[0.17, "asks", "middle"], [0.52, "looked", "start"], [0.99, "value", "end"]].forEach(([x, word, anchor]) =>
    text(x * width, 14, own.text(word), "font-size:11px", anchor));
  for (let i = 0; i < count; i++) for (let j = 0; j < count; j++) {
    const now = i === own.picked, a = weights[i][j];
    if (a < 0.02 && !now) continue;
    svg("path", {
      d: `M${0.335 * width + 2} ${middle(i)}L${0.5 * width} ${middle(j)}`, "stroke-width": Math.max(14 * a, 0.5),
      style: `stroke:${now ? "var(--blue)" : "var(--gray)"};opacity:${now ? 0.85 : 0.22}`,
    }, root);
  }
  words.forEach((word, j) => {
    const a = weights[own.picked][j], v = values.values[word], y = middle(j) + 4;
    text(0.52 * width, y, own.word(word), `font-weight:${a > 0.3 ? 700 : 400}`);
    text(0.8 * width, y, share(a), "fill:color-mix(in srgb,var(--blue) 75%,currentColor);font-weight:700", "end");
    text(0.99 * width, y, `× ${signed(v)}`, "", "end");
  });
  const edge = 58, to = grid.svg, [wide, high] = [grid.width - 16, grid.height].map((size) => (size - edge - 4) / Math.max(count, 3));
  to.replaceChildren();
  words.forEach((word, i) => {
    const y = edge + i * high, size = "font-size:11px", pale = young(word) ? 1 : 0.5;
    text(edge - 4, y + high / 2 + 4, own.word(word), size, "end", to);
    svg("text", { transform: `translate(${edge + (i + 0.5) * wide + 3} ${edge - 5})rotate(-60)`, style: size }, to)
      .textContent = own.word(word);
    weights[i].forEach((a, j) => {
      const x = edge + j * wide, ink = a * pale > 0.55 ? "#fff" : "currentColor";
      svg("rect", { x, y, width: wide - 1, height: high - 1, style: `fill:var(--blue);fill-opacity:${0.04 + 0.9 * a * pale}` }, to);
      if (a >= 0.095) text(x + wide / 2, y + high / 2 + 4, share(a), `font-size:10px;fill:${ink}`, "middle", to);
    });
  });
  if (count) svg("rect", {
    x: edge - 1, y: edge + own.picked * high - 1, width: count * wide + 1, height: high + 1,
    style: "fill:none;stroke:currentColor;stroke-width:2",
  }, to);
}

// ---- the words

function describe({ values }, { words, weights, answers, entropy: mean }, own) {
  const told = [];
  if (own.unknown.length) told.push(["unknown words", { unknown: own.unknown.join(", ") }]);
  const i = own.picked, row = weights[i];
  if (!row) return told;
  const most = row.indexOf(Math.max(...row)), answer = answers[i];
  const list = (j) => own.word(words[j]);
  told.push(["looks", { word: list(i), share: share(row[most]).replace(/^\./, "0."), most: list(most), place: most + 1 }]);
  if (young(words[i]))
    told.push([answer > 0.5 ? "mother" : answer < -0.5 ? "father" : "neither", { answer: signed(answer) }]);
  else told.push(["never asked"]);
  told.push(["entropy", { own: two(entropy(row)), mean: two(mean) }]);
  if (!values.scaled) told.push(["unscaled", { root: number(Math.sqrt(values.queries.length / WORDS)) }]);
  return told;
}

export default {
  render({ model, el }) {
    const own = Object.assign(hands(el, 0), { unknown: [], chips: [] }), { input, set, tell } = own;
    const now = () => sentence(Object.fromEntries(NAMES.map((name) => [name, input(name).valueAsNumber])));
    const write = (words, done = true) => {
      NAMES.forEach((name, i) => set(name, i < words.length ? words[i] + 1 : 0));
      if (done) tell(NAMES[0], "change");
    };
    const spot = (event) => `${event.clientX} ${event.clientY}`;
    const pick = (i) => { own.picked = i; own.redraw(); };
    const move = (from, to, done) => {
      const words = now(), goal = clamp(to, 0, words.length - 1);
      if (goal === from) return;
      for (const list of [words, own.chips]) list.splice(goal, 0, ...list.splice(from, 1));
      own.picked = goal;
      write(words, done);
    };
    const settle = (chip) => {  // the order of the nodes is that of the words, for who goes through them by keyboard
      chip.parentNode.append(...own.chips);
      chip.focus({ preventScroll: true });
    };
    own.of = (at) => {
      let top = null;
      return {
        onfocus: () => pick(at()),
        onpointerenter: (event) => {  // not where a word comes to lie below a pointer at rest
          if (event.pointerType === "mouse" && !event.buttons && spot(event) !== own.spot) pick(at());
          own.spot = spot(event);
        },
        onpointerdown: (event) => {
          if (event.button) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          top = event.currentTarget.parentNode.getBoundingClientRect().top + TOP;
          pick(at());
        },
        onpointermove: (event) => {
          own.spot = spot(event);
          if (top !== null) move(at(), Math.floor((event.clientY - top) / ROW), false);
        },
        onlostpointercapture: (event) => { top = null; settle(event.currentTarget); tell(NAMES[0], "change"); },
        onkeydown: (event) => {
          const way = { ArrowUp: -1, ArrowDown: 1 }[event.key], chip = event.currentTarget;
          if (way) { event.preventDefault(); move(at(), at() + way, true); settle(chip); }
          else if (event.key === "Delete" || event.key === "Backspace") {
            event.preventDefault();
            const words = now(), i = at();
            if (words.length < 2) return;
            words.splice(i, 1);
            write(words);
            own.chips[Math.min(i, words.length - 1)].focus({ preventScroll: true });
          }
        },
      };
    };
    return live({ model, el }, {
      panels: [{ name: "words", ratio: 1.2 }, { name: "weights", small: true, ratio: 0.95 }],
      shown: () => ["scaled"],
      draw: (panels, state, found) => draw(panels, state, found, own),
      facts,
      describe: (state, found) => describe(state, found, own),
      legend: ({ redraw, text }) => {
        const names = Array.from({ length: WORDS }, (_, i) => text(`t${i}`));
        Object.assign(own, { redraw, text, word: (i) => names[i] });
        const field = element("input", {
          type: "text", "aria-label": text("type"), placeholder: text("type"), autocomplete: "off",
          style: "flex:1 1 14rem;min-height:2.25rem;font:inherit;padding:.2rem .6rem;color:inherit;background:var(--dln-paper);"
            + "border:1px solid var(--rule);border-radius:6px",
          onchange: () => {
            const [words, unknown] = parse(field.value, names);
            own.unknown = unknown;
            if (words.length) write(words.slice(0, MOST));
            else redraw();
          },
        });
        const menu = element("select", {
          "aria-label": text("add"),
          onchange: () => {
            const words = [...now(), Number(menu.value)];
            menu.value = "";
            if (words.length <= MOST) { own.picked = words.length - 1; write(words); }
          },
        }, element("option", { value: "" }, text("add")), ...names.map((name, i) => element("option", { value: i }, name)));
        const remove = element("button", {
          type: "button", onclick: () => { if (now().length > 1) write(now().filter((_, i) => i !== own.picked)); },
        }, text("remove"));
        return element("div", { class: "row" }, field, menu, remove);
      },
    });
  },
};
