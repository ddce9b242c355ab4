// What every live figure shares: words in the page's languages, controls, a point to drag, playing, goals, a link.
//
// A figure's module exports its mathematics as pure functions and, as `default`, an object with `render({model, el})`:
// the contract that anywidget and its hosts share. `render` calls `live`, which asks the figure for pictures and words.

const NS = "http://www.w3.org/2000/svg";
const STYLE = `
.dln-lab{--blue:#0072B2;--vermilion:#D55E00;--green:#009E73;--purple:#CC79A7;--orange:#E69F00;--sky:#56B4E9;
--gray:#808080;--dln-paper:var(--paper,var(--jp-layout-color0,Canvas));--rule:color-mix(in srgb,currentColor 25%,transparent);
font:.95rem/1.5 var(--sans,var(--jp-ui-font-family,system-ui,sans-serif));container-type:inline-size}
.dln-lab [hidden]{display:none!important}
.dln-lab .panels{display:flex;flex-wrap:wrap;gap:.75rem}
.dln-lab .panel{position:relative;flex:1 1 100%;min-width:0;aspect-ratio:var(--ratio);overflow:clip}
.dln-lab .panel.small{aspect-ratio:2.1}
.dln-lab .panel>div[role=img],.dln-lab svg.drawing{display:block;width:100%;height:100%}
.dln-lab svg.drawing{overflow:hidden;font-size:12px;fill:currentColor;touch-action:manipulation;user-select:none;-webkit-user-select:none}
.dln-lab .handle{position:absolute;width:44px;height:44px;margin:-22px;border-radius:50%;touch-action:none;cursor:grab}
.dln-lab .handle::before{content:"";position:absolute;inset:11px;border-radius:50%;border:3px solid var(--ink,currentColor);
background:color-mix(in srgb,var(--dln-paper) 60%,transparent);box-shadow:0 0 0 2px var(--dln-paper)}
.dln-lab .handle:hover::before,.dln-lab .handle:active::before{inset:9px}
.dln-lab .handle:active{cursor:grabbing}
.dln-lab .handle:focus-visible{outline:none}
.dln-lab .handle:focus-visible::before{outline:3px solid var(--link,currentColor);outline-offset:2px}
.dln-lab .row{display:flex;flex-wrap:wrap;gap:.4rem .5rem;align-items:center;margin-top:.6rem}
.dln-lab button,.dln-lab select{min-height:2.25rem;padding:.2rem .7rem;border:1px solid var(--rule);border-radius:6px;
background:var(--panel,transparent);color:inherit;font:inherit;cursor:pointer}
.dln-lab button:hover,.dln-lab select:hover{border-color:currentColor}
.dln-lab button svg{width:.9em;height:.9em;margin-right:.4em;vertical-align:-.08em;fill:currentColor}
.dln-lab .row>output{margin-left:auto;font-variant-numeric:tabular-nums}
.dln-lab .controls{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.35rem 1.5rem;margin-top:.5rem}
.dln-lab .control label{display:flex;justify-content:space-between;gap:1rem}
.dln-lab .control output{font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}
.dln-lab .track{position:relative}
.dln-lab input[type=range]{display:block;width:100%;height:2rem;margin:0;cursor:pointer;accent-color:var(--link,var(--blue))}
.dln-lab .mark{position:absolute;top:.15rem;width:0;height:1.7rem;border-left:2px dashed var(--vermilion);pointer-events:none}
.dln-lab .mark::after{content:attr(data-text);position:absolute;top:1.35rem;left:.3rem;font-size:.8rem;line-height:1.2;white-space:nowrap}
.dln-lab .mark.left::after{left:auto;right:.4rem}
.dln-lab .track:has(.mark:not([hidden])){padding-bottom:.9rem}
.dln-lab input[type=checkbox]{width:1.5rem;height:1.5rem;margin:.25rem .5rem .25rem 0;vertical-align:middle;accent-color:var(--link,var(--blue))}
.dln-lab .control label.switch{display:block;min-height:2.25rem}
.dln-lab .control select{display:block;width:100%}
.dln-lab span[lang]+span[lang]::before{content:" · "}
.dln-lab p span[lang]+span[lang]::before{content:none}.dln-lab p span[lang]{display:block}
.dln-lab :focus-visible{outline:3px solid var(--link,currentColor);outline-offset:2px}
.dln-lab :is(input,select):focus-visible{outline-offset:-2px}
.dln-lab .text{min-height:3em;margin:.6rem 0 0}
.dln-lab .note{margin:.6rem 0 0;padding:.4rem .8rem;border-left:4px solid var(--vermilion)}
.dln-lab .goals{margin:.5rem 0 0;padding:0;list-style:none}
.dln-lab .goals li{display:flex;gap:.5rem}
.dln-lab .goals li::before{content:"○";width:1em}
.dln-lab .goals li.reached::before{content:"✓";color:var(--green);font-weight:700}
@container (min-width:36rem){.dln-lab .panel{flex:3 1 0}.dln-lab .panel.small{flex:2 1 0;aspect-ratio:var(--ratio)}}
@media print{.dln-lab .row,.dln-lab .controls{display:none}}`;
const ICONS = {
  play: "M3 1l11 7-11 7z", pause: "M3 1h4v14H3zM9 1h4v14H9z", step: "M2 1l8 7-8 7zM11 1h3v14h-3z",
  reset: "M8 2a6 6 0 1 1-5.7 4.2l1.9.6A4 4 0 1 0 8 4v3L3.5 3.2 8 0z",
  link: "M6.5 9.5a3 3 0 0 0 4.2 0l2.6-2.6a3 3 0 0 0-4.2-4.2l-1 1M9.5 6.5a3 3 0 0 0-4.2 0L2.7 9.1a3 3 0 0 0 4.2 4.2l1-1",
};

// ---- small things

export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

/** An SVG element with attributes, appended to `parent` if there is one. */
export function svg(tag, attributes = {}, parent = null) {
  const node = document.createElementNS(NS, tag);
  put(node, attributes);
  parent?.append(node);
  return node;
}

/** Set attributes of a node that is there. */
export const put = (node, attributes) => {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
};

/** A line without a filling. */
export const stroke = (parent, style) =>
  svg("path", { fill: "none", "stroke-linejoin": "round", "stroke-linecap": "round", style }, parent);

/**
 * The points up to step `at`, the last one on its way, as SVG commands: a line, dots if asked for, and where it ends.
 * `place(t, point)` writes the coordinates of step t into `point`. What would not move by a pixel is left out.
 */
export function trace(count, at, place, dotted = true) {
  let line = "", dots = "", endX = NaN, endY = NaN;
  const point = [0, 0], last = Math.min(Math.ceil(at), count - 1), start = [0, 0];
  let [drawnX, drawnY] = [NaN, NaN];
  for (let t = 0; t <= last; t++) {
    place(t, point);
    if (t > at) {  // on its way from the step before
      place(t - 1, start);
      for (const i of [0, 1]) point[i] = start[i] + (at - t + 1) * (point[i] - start[i]);
    }
    const [x, y] = point;
    if (!(Math.abs(x) < 5e3 && Math.abs(y) < 5e3)) break;  // far outside the picture
    endX = x;
    endY = y;
    if (Math.abs(x - drawnX) + Math.abs(y - drawnY) < 0.7 && t < last) continue;
    const written = `${Math.round(10 * x) / 10} ${Math.round(10 * y) / 10}`;
    line += (line ? "L" : "M") + written;
    if (dotted && t <= at) dots += `M${written}h0`;
    drawnX = x;
    drawnY = y;
  }
  return [line, dots, line ? [endX, endY] : null];
}

/** An HTML element with properties and attributes; `on…` are listeners. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A whole number as an exponent. */
export const raised = (exponent) => [...String(Number(exponent))].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("");

/** A number as a reader wants to see it: 0.3, −1.5, 2.1×10⁹. */
export function number(x, digits = 3) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "–" : x > 0 ? "∞" : "−∞";
  const rounded = Number(x.toPrecision(digits)), size = Math.abs(rounded);
  let text = String(rounded);
  if (size && (size < 1e-3 || size >= 1e5)) {
    const [mantissa, exponent] = rounded.toExponential().split("e");
    text = `${Math.abs(mantissa) === 1 ? mantissa.replace("1", "") : `${mantissa}×`}10${raised(exponent)}`;
  }
  return text.replace("-", "−");
}

// A slider's place u for a value v, and back; `memory` is for what forgets: 0, 0.9, 0.99 are equally far apart.
const SCALES = {
  linear: [(v) => v, (u) => u],
  log: [Math.log10, (u) => 10 ** u],
  memory: [(v) => -Math.log10(1 - v), (u) => 1 - 10 ** -u],
};

/** What a link asks for: the values that fit, and what is wrong with the rest, as [word, facts]. */
export function asked(query, specs, names) {
  const values = {}, faults = [];
  for (const [name, text] of new URLSearchParams(query)) {
    const spec = names.includes(name) ? specs[name] : null;
    if (!spec) faults.push(["unknown", { name, known: names }]);
    else if (spec.kind === "number") {
      const value = text.trim() === "" ? NaN : Number(text);
      if (value >= spec.min && value <= spec.max) values[name] = value;
      else faults.push(["outside", { name, value: text, low: number(spec.min), high: number(spec.max) }]);
    } else {
      const choices = spec.kind === "switch" ? ["false", "true"] : spec.choices;
      if (choices.includes(text)) values[name] = spec.kind === "switch" ? text === "true" : text;
      else faults.push(["choices", { name, value: text, known: choices }]);
    }
  }
  return [values, faults];
}

/** Whether a goal, such as {arrival: [null, 20], method: "gd"}, holds for what is so. */
export const holds = (goal, facts) => Object.entries(goal).every(([name, wanted]) =>
  Array.isArray(wanted)
    ? facts[name] >= (wanted[0] ?? -Infinity) && facts[name] <= (wanted[1] ?? Infinity)
    : facts[name] === wanted);

// ---- numbers in the drawing

/**
 * The hands of numbers that stand in the drawing itself. The element that shows control `name` takes what `of(name)`
 * gives: it is a slider that focus picks, a pointer drags, and keys move, by `by` or, with Shift, by `fine`.
 * `along(event, node)` is where a pointer stands, in units of the value. `set` moves the control, which may be hidden,
 * as its own slider would, and `tell` sends it events; `live` gives `text`, `redraw` and `commit` by way of `legend`.
 */
export function hands(el, picked, { by, fine, along } = {}) {
  const own = { picked };
  own.input = (name) => el.querySelector(`input[id$="-${name}"]`);
  own.tell = (name, ...events) => events.forEach((event) => own.input(name).dispatchEvent(new Event(event)));
  own.set = (name, value) => { own.input(name).value = value; own.tell(name, "input"); };
  own.of = (name) => {
    const { min, max } = own.input(name);
    let start = null;
    return {
      role: "slider", tabindex: 0, "aria-label": own.text(name), "aria-valuemin": min, "aria-valuemax": max,
      onfocus: () => { own.picked = name; own.redraw(); },
      onpointerdown: (event) => {
        if (event.button) return;
        const node = event.currentTarget;
        node.setPointerCapture(event.pointerId);
        node.focus({ preventScroll: true });  // a finger that drags does not do so by itself
        start = own.input(name).valueAsNumber - along(event, node);
        own.tell(name, "pointerdown");
      },
      onpointermove: (event) => { if (start !== null) own.set(name, start + along(event, event.currentTarget)); },
      onlostpointercapture: () => { start = null; own.tell(name, "pointerup", "change"); },
      onkeydown: (event) => {
        const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
        const end = { Home: min, End: max }[event.key];
        if (!way && end === undefined) return;
        event.preventDefault();
        own.set(name, end ?? own.input(name).valueAsNumber + way * (event.shiftKey ? fine : by));
        own.tell(name, "change");
      },
    };
  };
  return own;
}

// ---- the figure

/**
 * Put a figure into `el`. The model holds `settings` (what there is), `start` (the values), `controls` (what a reader
 * may change), `goals`, `words`, `name` and `page` (whether links to a setting make sense). The figure brings
 *   panels: [{name, small, ratio, handle}], one drawing each; a handle is {get(values), set([x, y]), label, keys};
 *   draw(panels, state): the picture, where state is {values, before, step, steps};
 *   facts(values): what goals ask about; describe(state, facts): [[word, numbers], …];
 * and, where it makes sense,
 *   steps(values): how many there are to play; shown(values): the names of the controls that matter;
 *   marks(values): {name: [value, word]} on sliders; legend(…): an element below the drawings.
 * Returns a function that ends it.
 */
export function live({ model, el }, figure) {
  const specs = model.get("settings"), start = model.get("start"), names = model.get("controls");
  const words = model.get("words"), languages = Object.keys(words), goals = model.get("goals") ?? [];
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let values = { ...start }, before = null, step = Infinity, playing = 0, inView = true, frame = 0;
  let held = false, lastTouched = "", lastTime = -Infinity, clock = 0;

  // A fact is a text, or a list of texts and of [word, text].
  const list = (lang, items) => items.map((one) => Array.isArray(one) ? words[lang][one[0]] + one[1] : one)
    .join(lang === "zh" ? "、" : ", ");
  const say = (word, facts = {}) => languages.map((lang) =>
    (words[lang][word] ?? word).replace(/\{(\w+)\}/g, (_, name) =>
      Array.isArray(facts[name]) ? list(lang, facts[name]) : facts[name] ?? ""));
  const text = (word, facts) => [...new Set(say(word, facts))].join(" · ");
  const write = (node, sentences) => {
    const lines = languages.map((lang, i) => sentences.map(([word, facts]) => say(word, facts)[i])
      .join(lang === "zh" ? "" : " "));
    const same = new Set(lines).size === 1;
    node.replaceChildren(...(same ? lines.slice(0, 1) : lines.map((line, i) =>
      element("span", { lang: languages[i] }, line))));
    return node;
  };
  const label = (word) => write(element("span"), [[word]]);

  // -- drawings
  const key = `dln-${Math.random().toString(36).slice(2, 8)}`;  // ids that no other figure of the page has
  const said = element("p", { class: "text", id: `${key}-text`, "aria-live": "polite", "aria-atomic": "true" });
  const panels = {};
  const sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect: { width, height } } of entries)
      Object.assign(Object.values(panels).find(({ box }) => box === target), { width, height });
    redraw();
  });
  const boxes = figure.panels.map((panel) => {
    const drawing = svg("svg", { class: "drawing", "aria-hidden": "true" });
    const picture = element("div", { role: "img", "aria-label": text(panel.name), "aria-describedby": said.id }, drawing);
    const box = element("div", { class: `panel${panel.small ? " small" : ""}` }, picture);
    box.style.setProperty("--ratio", panel.ratio);
    panels[panel.name] = { svg: drawing, box, width: 0, height: 0, nodes: {} };
    sizes.observe(box);
    if (panel.handle) box.append(draggable(panel, box));
    return box;
  });

  function draggable(panel, box) {
    const { handle } = panel, node = element("div", {
      class: "handle", role: "slider", tabindex: "0", "aria-label": text(handle.label), "aria-valuenow": "0",
      onpointerdown: (event) => {
        if (event.button) return;
        node.setPointerCapture(event.pointerId);
        event.preventDefault();
        node.focus({ preventScroll: true });
        held = touch(panel.name);
      },
      onpointermove: (event) => { if (node.hasPointerCapture(event.pointerId)) follow(event); },
      onlostpointercapture: () => { letGo(); commit(); },
      onkeydown: (event) => {
        const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
        if (!way) return;
        event.preventDefault();
        touch(panel.name);
        const size = handle.step * (event.shiftKey ? 10 : 1);
        moved(handle.move(values, way[0] * size, way[1] * size));
        commit();
      },
    });
    const follow = (event) => {
      const { left, top, width, height } = box.getBoundingClientRect();
      moved(handle.set((event.clientX - left) / width, (event.clientY - top) / height));
    };
    box.firstChild.addEventListener("click", (event) => { touch(panel.name); follow(event); commit(); });
    panels[panel.name].place = () => {
      const [x, y, spoken] = handle.get(values);
      node.style.left = `${100 * x}%`;
      node.style.top = `${100 * y}%`;
      const { min, max } = specs[handle.now];
      put(node, { "aria-valuemin": min, "aria-valuemax": max, "aria-valuenow": values[handle.now] });
      node.setAttribute("aria-valuetext", spoken);
    };
    return node;
  }
  const moved = (change) => {
    for (const name of Object.keys(change)) {
      const { min, max } = specs[name];
      values[name] = Number(clamp(change[name], min, max).toFixed(2));
    }
    step = Infinity;
    redraw();
  };

  // -- controls
  const widgets = {};
  const controls = element("div", { class: "controls" });
  for (const name of names) {
    const spec = specs[name];
    if (spec.dragged) continue;
    const id = `${key}-${name}`, box = element("div", { class: "control" }), caption = label(name);
    const set = (value) => { touch(name); values[name] = value; step = Infinity; redraw(); };
    if (spec.kind === "number") {
      const [place, value] = SCALES[spec.scale ?? "linear"], low = place(spec.min), high = place(spec.max);
      const shown = element("output", { for: id });
      const input = element("input", {
        type: "range", id, min: low, max: high, step: (high - low) / 600, autocomplete: "off",
        onpointerdown: () => { held = touch(name); },
        onpointerup: letGo, onpointercancel: letGo,
        oninput: () => set(clamp(Number(value(input.valueAsNumber).toPrecision(3)), spec.min, spec.max)),
        onchange: commit,
      });
      const mark = element("div", { class: "mark", hidden: "", "aria-hidden": "true" });
      box.append(element("label", { for: id }, caption, shown), element("div", { class: "track" }, input, mark));
      let drawn = "";  // what stands there need not be written again
      widgets[name] = (now, marked) => {
        const wanted = `${now} ${marked}`;
        if (wanted === drawn) return;
        drawn = wanted;
        const spoken = number(now) + (spec.unit ?? "");
        if (!held || lastTouched !== name) input.value = place(now);
        input.setAttribute("aria-valuetext", spoken);
        shown.textContent = spoken;
        const share = marked ? (place(marked[0]) - low) / (high - low) : -1;
        mark.hidden = !(share >= 0 && share <= 1);
        if (mark.hidden) return;
        mark.style.left = `calc(8px + (100% - 16px) * ${share})`;
        mark.classList.toggle("left", share > 0.55);
        mark.dataset.text = text(marked[1], { value: number(marked[0]) });
      };
    } else if (spec.kind === "choice") {
      const input = element("select", { id, onchange: () => { set(input.value); commit(); } },
        ...spec.choices.map((choice) => element("option", { value: choice }, text(choice))));
      box.append(element("label", { for: id }, caption), input);
      widgets[name] = (now) => { input.value = now; };
    } else {
      const input = element("input", { type: "checkbox", id, onchange: () => { set(input.checked); commit(); } });
      box.append(element("label", { for: id, class: "switch" }, input, caption));
      widgets[name] = (now) => { input.checked = now; };
    }
    widgets[name].box = box;
    controls.append(box);
  }

  function letGo() {
    held = false;
    said.dataset.line = "";  // written once more, now that it is read aloud
    redraw();
  }

  // -- buttons
  const button = (icon, act) => {
    const drawing = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" });
    const path = svg("path", { d: ICONS[icon] }, drawing);
    if (icon === "link") path.setAttribute("style", "fill:none;stroke:currentColor;stroke-width:1.8");
    return element("button", { type: "button", onclick: act }, drawing, label(icon));
  };
  const dress = (node, icon) => {
    node.querySelector("path").setAttribute("d", ICONS[icon]);
    node.lastChild.replaceWith(label(icon));
  };
  const count = element("output", { "aria-live": "off" });
  const play = button("play", () => (playing ? pause() : run()));
  const next = button("step", () => { pause(); step = step >= total() ? 1 : Math.floor(step) + 1; redraw(); });
  const reset = button("reset", () => {
    pause();
    [values, before, step] = [{ ...start }, null, Infinity];
    redraw();
    commit();
  });
  const copy = button("link", async () => {
    commit();
    let word = "kept";
    try { await navigator.clipboard.writeText(location.href); word = "copied"; } catch { /* the address bar has it */ }
    write(note, [[word]]).hidden = false;
  });
  copy.hidden = !model.get("page");
  play.hidden = next.hidden = count.hidden = !figure.steps;
  const row = element("div", { class: "row" }, play, next, reset, copy, count);
  const note = element("p", { class: "note", role: "status", hidden: "" });

  // -- goals
  const tasks = element("ul", { class: "goals" }, ...goals.map(({ word }) => write(element("li"), [[word]])));
  tasks.hidden = !goals.length;

  // -- what happens
  const total = () => figure.steps?.(values) ?? 0;
  /** A reader takes hold of something: what stood there becomes the trace to compare with. */
  function touch(name) {
    const now = performance.now();
    if (playing) pause();
    note.hidden = true;
    if (!held && (now - lastTime > 1500 || name !== lastTouched)) before = { ...values };
    [lastTouched, lastTime] = [name, now];
    return true;
  }
  function redraw() {
    frame ||= requestAnimationFrame((now) => { frame = 0; paint(now); });
  }
  function paint(now) {
    if (playing) {
      const passed = Math.min(now - clock, 100);
      clock = now;
      if (inView) step += passed * total() / (figure.seconds ?? 5) / 1000;
      if (step >= total()) { step = Infinity; pause(); }
      else redraw();
    }
    for (const panel of Object.values(panels)) panel.place?.();
    const steps = total(), at = Math.min(still.matches ? Math.floor(step) : step, steps);
    const marks = figure.marks?.(values) ?? {}, shown = figure.shown?.(values) ?? names;
    for (const [name, widget] of Object.entries(widgets)) {
      widget.box.hidden = !shown.includes(name);
      widget(values[name], marks[name]);
    }
    const facts = figure.facts(values), state = { values, before, step: at, steps };
    if (panels[figure.panels[0].name].width) figure.draw(panels, state, facts);
    said.setAttribute("aria-live", held || playing ? "off" : "polite");
    const sentences = figure.describe(state, facts);
    const line = JSON.stringify(sentences);
    if (said.dataset.line !== line) { said.dataset.line = line; write(said, sentences); }
    count.textContent = text("count", { step: Math.floor(at), steps });
  }
  function run() {
    if (step >= total()) step = 0;
    [playing, clock] = [1, performance.now()];
    dress(play, "pause");
    redraw();
  }
  function pause() {
    if (!playing) return;
    playing = 0;
    dress(play, "play");
    redraw();
  }
  /** A change is done: goals, the link, whoever shares the model. */
  function commit() {
    const facts = { ...values, ...figure.facts(values) };
    goals.forEach(({ test }, i) => {
      const item = tasks.children[i];
      if (item.classList.contains("reached") || !holds(test, facts)) return;
      item.classList.add("reached");
      write(note, [["reached"], [goals[i].word]]).hidden = false;
    });
    if (model.get("page")) {
      const query = new URLSearchParams(names.map((name) => [name, values[name]]));
      history.replaceState(history.state, "", `#${model.get("name")}?${query}`);
    }
    model.set("values", { ...values });
    model.save_changes?.();
    redraw();
  }
  /** Take the setting from the address, if it is this figure's; say what in it is wrong. */
  function fromAddress(scroll) {
    const [name, query] = location.hash.slice(1).split("?");
    if (!model.get("page") || query === undefined) return;
    if (name !== model.get("name")) {
      const all = [...document.querySelectorAll("[data-live]")];
      if (all[0]?.contains(el) && !all.some((other) => other.dataset.live === name))
        write(note, [["nowhere", { name }]]).hidden = false;
      return;
    }
    const [wanted, faults] = asked(query, specs, names);
    [values, before, step] = [{ ...start, ...wanted }, null, Infinity];
    if (faults.length) write(note, [...faults, ["instead"]]).hidden = false;
    redraw();
    const loaded = document.readyState === "complete" || new Promise((done) => addEventListener("load", done));
    if (scroll) Promise.resolve(loaded).then(() => window.MathJax?.startup?.promise)  // formulas move the figure
      .then(() => el.closest("figure")?.scrollIntoView({ block: "center" }));
  }

  el.classList.add("dln-lab");
  el.replaceChildren(element("style", {}, STYLE), element("div", { class: "panels" }, ...boxes),
    ...(figure.legend ? [figure.legend({ redraw, commit, text })] : []), row, controls, said, tasks, note);
  const keys = (event) => event.stopPropagation();  // or a notebook around the figure takes the arrow keys
  el.addEventListener("keydown", keys);
  const view = new IntersectionObserver(([entry]) => {
    inView = entry.isIntersecting;
    clock = performance.now();
  });
  view.observe(el);
  const byAddress = () => fromAddress(true);
  addEventListener("hashchange", byAddress);
  queueMicrotask(() => fromAddress(true));  // once the host has put the figure in its place
  redraw();
  return () => {
    cancelAnimationFrame(frame);
    view.disconnect();
    sizes.disconnect();
    removeEventListener("hashchange", byAddress);
    el.removeEventListener("keydown", keys);
    el.replaceChildren();
  };
}
