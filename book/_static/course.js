// What the pages do: appearance, remembered language, menu on phones, contents that follow, copy buttons.
(() => {
  "use strict";
  const root = document.documentElement, body = document.body;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch {} };

  // Appearance: as the system, light, dark, and round again.
  const mode = document.querySelector(".mode"), night = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const chosen = root.dataset.mode;
    root.dataset.theme = chosen === "auto" ? (night.matches ? "dark" : "light") : chosen;
    mode.title = mode.dataset.label + mode.dataset[chosen];
    mode.setAttribute("aria-label", mode.title);
  };
  mode.addEventListener("click", () => {
    root.dataset.mode = { auto: "light", light: "dark", dark: "auto" }[root.dataset.mode];
    remember("dlnotes-mode", root.dataset.mode);
    show();
  });
  night.addEventListener("change", show);
  show();

  // The language switch leads to the paragraph being read, at the same height, and the entrance remembers the choice.
  const recall = (key, value) => { try { return value ? sessionStorage.setItem(key, value) : sessionStorage.getItem(key); } catch {} };
  const topOf = (place) => place.getBoundingClientRect().top;
  const reading = () => all("article section[id], article .dln-at")
    .filter((place) => topOf(place) < innerHeight / 3 && !place.closest("details:not([open])")).pop();
  all("[data-edition]").forEach((link) => link.addEventListener("click", () => {
    remember("dlnotes-edition", link.dataset.edition);
    const place = scrollY > innerHeight / 3 && !location.hash.includes("?") && reading();
    link.search = location.search;
    link.hash = place ? place.id : location.hash;
    if (place) recall("dlnotes-place", JSON.stringify({ hash: link.hash, top: topOf(place) }));
  }));
  const come = () => {  // as long as formulas arrive and the reader has not moved on
    const { hash, top } = JSON.parse(recall("dlnotes-place") || "{}");
    const place = hash && hash === location.hash && document.getElementById(hash.slice(1));
    try { sessionStorage.removeItem("dlnotes-place"); } catch {}
    if (!place) return;
    const settle = () => scrollBy({ top: topOf(place) - top, behavior: "instant" });
    const watch = new ResizeObserver(settle), leave = () => watch.disconnect();
    watch.observe(document.querySelector("article"));
    ["wheel", "touchstart", "keydown", "pointerdown"].forEach((event) => addEventListener(event, leave, { once: true }));
    setTimeout(leave, 10000);
  };

  // Chapters on a phone.
  const menu = document.querySelector(".menu");
  const open = (state) => {
    body.classList.toggle("menu-open", state);
    menu.setAttribute("aria-expanded", state);
  };
  menu.addEventListener("click", () => open(!body.classList.contains("menu-open")));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && body.classList.contains("menu-open")) { open(false); menu.focus(); }
  });

  // Contents: always open beside the text, folded above it.
  const contents = document.querySelector(".contents"), wide = matchMedia("(min-width: 75.01rem)");
  if (contents) {
    const fit = () => { contents.open = wide.matches; };
    wide.addEventListener("change", fit);
    fit();
    const links = new Map(all(".contents a[href^='#']").map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
    const headings = all("article section[id]").filter((section) => links.has(section.id));
    const follow = () => {
      const here = headings.filter((section) => section.getBoundingClientRect().top < 120).pop();
      links.forEach((a, id) => a.classList.toggle("here", !!here && id === here.id));
    };
    addEventListener("scroll", follow, { passive: true });
    follow();
  }

  // Copy buttons, where the browser allows copying.
  if (navigator.clipboard) all("article div.highlight").forEach((block) => {
    if (block.closest(".cell_output")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = body.dataset.copy;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("pre").innerText.trimEnd());
      button.textContent = body.dataset.copied;
      setTimeout(() => { button.textContent = body.dataset.copy; }, 1500);
    });
    block.append(button);
  });

  // A link that leads into a folded box opens it.
  const unfold = () => {
    const place = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    let closed = false;
    for (let box = place && place.closest("details"); box; box = box.parentElement.closest("details"))
      if (!box.open) closed = box.open = true;
    if (closed) place.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();
  come();

  // Questions: once the answer is open, say in words whether the choice was right, and which one is.
  all(".dln-question[data-right]").forEach((question) => {
    const answer = question.querySelector(".dln-answer"), verdict = question.querySelector(".dln-verdict");
    if (!answer || !verdict) return;
    const right = JSON.parse(question.dataset.right), choices = [...question.querySelectorAll("input")];
    const mark = document.createElement("span");
    mark.className = "dln-mark";
    mark.textContent = question.dataset.mark;
    const judge = () => {
      mark.remove();
      verdict.textContent = "";
      if (!answer.open) return;
      let correct;
      if (Array.isArray(right)) {
        const number = choices[0].valueAsNumber;
        if (!Number.isNaN(number)) correct = right[0] <= number && number <= right[1];
      } else {
        choices[right].nextElementSibling.append(" ", mark);
        const chosen = choices.findIndex((choice) => choice.checked);
        if (chosen >= 0) correct = chosen === right;
      }
      if (correct !== undefined) verdict.textContent = question.dataset[correct ? "yes" : "no"];
    };
    answer.addEventListener("toggle", judge);
    question.addEventListener("input", judge);
  });

  // A wide table scrolls in a box of its own; whatever scrolls can be reached with the keyboard.
  all("article table").forEach((table) => {
    if (table.closest(".output, .dln-explorer")) return;
    const box = document.createElement("div");
    box.className = "table-scroll";
    table.replaceWith(box);
    box.append(table);
  });
  const more = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  document.addEventListener("scroll", (event) => { if (event.target.tabIndex === 0) more(event.target); },
    { capture: true, passive: true });
  const reach = () => {
    all("span.math mjx-container").forEach((formula) => {
      formula.classList.remove("wide");
      const line = formula.closest("p, li, td, th, dd, figcaption, div");
      formula.classList.toggle("wide", formula.getBoundingClientRect().width > line.clientWidth + 1);
    });
    all("pre, .table-scroll, .output.text_html, .dln-drawing, mjx-container").forEach((box) => {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;  // axe counts a single pixel
      else if (box.tabIndex === 0) box.removeAttribute("tabindex");
      more(box);
    });
  };
  new ResizeObserver(reach).observe(document.querySelector("article"));  // also when fonts or formulas arrive
  addEventListener("load", () => {
    reach();
    if (window.MathJax) MathJax.startup.promise.then(reach);
  });
})();
