// The controls, what happens when a view is shown, and buttons that copy.
(function () {
  "use strict";
  const at = (id) => document.getElementById(id);
  const chips = [...document.querySelectorAll(".methods button[data-key]")];

  async function copy(button, element, text) {
    const words = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      element.hidden = false;
      getSelection().selectAllChildren(element); // no clipboard here: select, the reader copies
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = words), 1500);
  }

  for (const button of document.querySelectorAll(".copy")) {
    const code = button.parentElement.querySelector("code");
    button.addEventListener("click", () => copy(button, code, code.textContent));
  }

  // The line and the name of a method, for the legend that stands in the place of the list while that is folded.
  function named(chip) {
    const entry = document.createElement("span");
    entry.append(...[...chip.childNodes].map((part) => part.cloneNode(true)));
    return entry;
  }

  function showControls(state) {
    if (at("problem")) at("problem").value = state.problem;
    if (at("axis")) at("axis").value = state.axis;
    const [vivid, count] = [view.vivid(), chips.length - state.hidden.size];
    for (const chip of chips) {
      const shown = !state.hidden.has(chip.dataset.name);
      chip.setAttribute("aria-pressed", shown);
      chip.classList.toggle("grey", shown && !vivid.has(chip.dataset.name));
    }
    if (at("key")) at("key").replaceChildren(...chips.filter((chip) => vivid.has(chip.dataset.name)).map(named));
    const colour = vivid.size < count ? `, the first ${vivid.size} in colour` : "";
    if (at("shown")) at("shown").textContent = `${count} of ${chips.length}${colour}`;
    at("address").textContent = view.address();
    at("address").hidden = true;
  }

  // The full record of a run, when its fold is opened.
  let records;
  async function record(fold) {
    records ??= plots.unpack("records");
    fold.querySelector("pre").textContent = (await records)[Number(fold.dataset.record)];
  }
  for (const fold of document.querySelectorAll("details[data-record]")) {
    fold.addEventListener("toggle", () => fold.open && record(fold));
  }

  at("controls").hidden = false;
  if (at("problem")) at("problem").addEventListener("change", (event) => view.set({ problem: event.target.value }));
  if (at("axis")) at("axis").addEventListener("change", (event) => view.set({ axis: event.target.value }));
  at("link").addEventListener("click", () => copy(at("link"), at("address"), view.address()));
  for (const chip of chips) {
    chip.addEventListener("click", () => view.toggle(chip.dataset.name));
    for (const event of ["pointerenter", "focus"]) chip.addEventListener(event, () => plots.focus(chip.dataset.name));
    for (const event of ["pointerleave", "blur"]) chip.addEventListener(event, () => plots.focus());
  }
  if (chips.length) {
    at("every").addEventListener("click", () => view.set({ hidden: new Set() }));
    at("none").addEventListener("click", () => view.set({ hidden: new Set(chips.map((chip) => chip.dataset.name)) }));
  }

  // On paper the list of methods is the legend of the figures that are too full for one of their own.
  const list = document.querySelector(".methods");
  if (list) {
    let open = list.open;
    addEventListener("beforeprint", () => ([open, list.open] = [list.open, true]));
    addEventListener("afterprint", () => (list.open = open));
  }

  document.documentElement.classList.remove("starting");
  const able = "DecompressionStream" in window;
  at("old").hidden = able;
  tables.begin();
  if (able) plots.begin();
  for (const show of [showControls, tables.show, ...(able ? [plots.show] : [])]) {
    view.onChange(show);
    show(view.state);
  }
  document.documentElement.dataset.controls = "ready";
})();
