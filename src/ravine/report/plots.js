// Figures: unpacked when their part of the page is shown, drawn when they come near the screen, in the reader's colours
// (and in light ones for print and for files).
const plots = (function () {
  "use strict";
  const schemes = JSON.parse(document.getElementById("schemes").textContent);
  const all = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hover = matchMedia("(hover: hover)").matches; // a mouse; plotly would show its buttons at all times without one
  const LEGEND = 6; // methods that a legend inside a figure names; of more the list above the page is the legend
  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false, // plotly.js offers an upload unless told not to
    plotlyServerURL: "",
    displayModeBar: hover ? "hover" : false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toImage"], // files are saved by the button below
  };
  const blocks = new Map(); // key: {figures, columns} once it is unpacked
  const near = new Set(); // plots on the screen or not far from it
  let working = false;
  let printing = false;

  async function unpack(key) {
    const bytes = Uint8Array.from(atob(document.getElementById(`packed-${key}`).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function numbers({ type, shape, data }) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer;
    const flat = type === "f4" ? new Float32Array(bytes) : new Float64Array(bytes);
    if (shape.length === 1) return flat;
    return Array.from({ length: shape[0] }, (_, i) => flat.subarray(i * shape[1], (i + 1) * shape[1]));
  }

  async function block(key) {
    if (!blocks.has(key)) {
      const made = await unpack(key);
      blocks.set(key, { figures: made.figures, columns: made.columns.map(numbers) });
    }
    return blocks.get(key);
  }

  const blockKey = (plot) => plot.dataset.figure.split("-")[0];
  const axisOf = (plot) => view.state.axis.split(",")[plot.dataset.axis ?? 0];

  // The outline of a range: along its upper side and back along the lower one.
  function around(x, [low, high]) {
    const rows = Array.from(low, (_, row) => row).filter((row) => Number.isFinite(low[row]) && Number.isFinite(high[row]));
    const back = [...rows].reverse();
    return { x: [...rows, ...back].map((row) => x[row]), y: [...rows.map((row) => high[row]), ...back.map((row) => low[row])] };
  }

  // Which traces are of a method without a colour; a figure of one method has its colour in any case.
  function greyed(traces) {
    const [vivid, method] = [view.vivid(), (trace) => (trace.meta || {}).method];
    const several = new Set(traces.map(method).filter((name) => name !== undefined)).size > 1;
    return (trace) => several && method(trace) !== undefined && !vivid.has(method(trace));
  }

  function faint(trace, colour) {
    const line = { ...trace.line, color: colour, width: 1, dash: "solid" };
    return { line, marker: { ...trace.marker, color: colour, size: 5 }, opacity: 0.35, showlegend: false };
  }

  // The figure with its columns in place, against the readings chosen, without the methods that are hidden.
  function figure(plot, scheme) {
    const { figures, columns } = blocks.get(blockKey(plot));
    const { data, layout } = figures[plot.dataset.figure];
    const column = (entry) => (entry && entry.column !== undefined ? columns[entry.column] : entry);
    const readings = layout.meta ? layout.meta.x : {};
    const x = axisOf(plot) in readings ? axisOf(plot) : Object.keys(readings)[0];
    const inSight = data.filter((trace) => !(trace.meta && view.state.hidden.has(trace.meta.method)));
    const grey = greyed(inSight);
    // Grey lines lie below the others, and ranges of seeds would cover those.
    const shown = [...inSight.filter((t) => grey(t) && !t.meta.range), ...inSight.filter((t) => !grey(t))];
    const traces = shown.map((trace, i) => {
      const meta = trace.meta || {};
      const made = { ...trace, x: column(meta.x ? meta.x[x] || [] : trace.x) };
      made.y = column(meta.y ? meta.y[x] || [] : trace.y);
      if (meta.range) Object.assign(made, around(made.x, (meta.range[x] || [[], []]).map(column)));
      if (trace.z) made.z = column(trace.z);
      if (trace.customdata) made.customdata = column(trace.customdata);
      if (meta.hover) {
        const facts = meta.hover.map(column);
        made.customdata = Array.from(made.y, (_, row) => facts.map((fact) => fact[row]));
      }
      if (meta.method !== undefined) made.uid = `m${view.methodKey(meta.method)}-${i}`; // for `focus`
      if (meta.slot === undefined) return made;
      if (grey(trace)) return { ...made, ...faint(made, scheme.muted) };
      const colour = meta.slot === "ink" ? scheme.ink : scheme.palette[meta.slot % scheme.palette.length];
      return { ...made, line: { ...made.line, color: colour }, marker: { ...made.marker, color: colour } };
    });
    const made = { ...layout, template: scheme.template, uirevision: x || "kept" };
    if (x) made.xaxis = readings[x];
    return { traces, layout: made, entries: traces.filter((t) => t.meta && t.meta.method && t.showlegend !== false).length };
  }

  const look = () => (dark.matches && !printing ? "dark" : "light");
  const wanted = (plot) => (printing ? "paper" : [look(), axisOf(plot), ...view.state.hidden].join("|"));

  function draw(plot) {
    const { traces, layout, entries } = figure(plot, schemes[look()]);
    if (entries > LEGEND) layout.showlegend = false;
    if (!hover) layout.dragmode = false; // a finger on a figure scrolls the page
    if (printing) {
      // A4 less its margins is 680 px wide; pairs and triples share it as in the style sheet.
      layout.width = plot.closest(".triple") ? 218 : plot.closest(".pair > :not(.wide)") ? 332 : 680;
      layout.height = Math.round(0.64 * layout.height);
    }
    plot.style.height = layout.height + "px";
    Plotly.react(plot, traces, layout, config);
    // react keeps the width of the first drawing, also where one figure now has the place of two.
    if (!printing && Math.abs(plot._fullLayout.width - plot.clientWidth) > 1) Plotly.Plots.resize(plot);
    plot.drawn = wanted(plot);
    if (!plot.listens) listen(plot);
  }

  function listen(plot) {
    plot.listens = true;
    const method = (event) => event.data[event.curveNumber].meta.method;
    plot.on("plotly_legendclick", (event) => method(event) === undefined || (view.toggle(method(event)), false));
    plot.on("plotly_legenddoubleclick", (event) => method(event) === undefined || (view.only(method(event)), false));
    plot.on("plotly_hover", (event) => focus((event.points[0].data.meta || {}).method));
    plot.on("plotly_unhover", () => focus());
  }

  const shown = (plot) => !plot.closest("[hidden]");
  const waiting = () => (printing ? all : [...near]).filter((plot) => shown(plot) && plot.drawn !== wanted(plot));

  // Draws what is near the screen, one figure at a time, so that the page answers in between.
  async function work() {
    if (working) return;
    working = true;
    document.documentElement.dataset.figures = "drawing";
    for (let plot = waiting()[0]; plot; plot = waiting()[0]) {
      await block(blockKey(plot));
      if (shown(plot)) draw(plot);
      await new Promise((done) => setTimeout(done));
    }
    working = false;
    document.documentElement.dataset.figures = "drawn";
    performance.mark("drawn"); // benchmarks/report_page.py reads it
  }

  // What a figure and its button are called, for a reader who does not see them.
  function call(plot, label) {
    plot.setAttribute("aria-label", label);
    plot.nextElementSibling.setAttribute("aria-label", `Save SVG of ${label}`);
  }

  function show() {
    const second = view.state.axis.includes(",");
    for (const plot of all) {
      if (plot.dataset.axis === undefined) continue;
      const { axis, label } = plot.dataset;
      if (axis === "1") plot.parentElement.hidden = !second;
      plot.parentElement.classList.toggle("wide", !second && plot.parentElement.dataset.alone !== undefined);
      const titles = [...document.getElementById("axis").options].find((o) => o.value === axisOf(plot));
      call(plot, `${label} against ${titles ? titles.textContent : axisOf(plot)}`);
    }
    for (const key of new Set(all.filter(shown).map(blockKey))) block(key); // also what is off the screen, for print
    work();
  }

  // Lines and rows of one method stand out, in all figures and tables.
  const rule = document.head.appendChild(document.createElement("style"));
  function focus(method) {
    const key = method === undefined ? undefined : view.methodKey(method);
    rule.textContent =
      key === undefined || key === ""
        ? ""
        : `.scatterlayer .trace[class*="tracem"]:not([class*="tracem${key}-"]) { opacity: 0.12 !important; }
           .scatterlayer .trace[class*="tracem${key}-"] { opacity: 1 !important; }
           tr[data-m="${key}"] > *, .methods button[data-key="${key}"] { background: var(--soft); }`;
  }

  // The figure as on the page, in light colours on white, with all its methods named.
  async function save(plot) {
    await block(blockKey(plot));
    const { traces, layout, entries } = figure(plot, schemes.light);
    const [width, height] = [Math.max(640, plot.clientWidth), layout.height];
    if (entries > LEGEND) layout.legend = { orientation: "v", x: 1.02, xanchor: "left", y: 1, tracegroupgap: 0 };
    const shape = { ...layout, width: entries > LEGEND ? width + 160 : width, paper_bgcolor: "#ffffff" };
    shape.height = Math.max(height, entries > LEGEND ? 20 * entries + 60 : 0);
    const head = plot.closest("section").querySelector("h2").textContent;
    const name = `${head} ${plot.getAttribute("aria-label")}`.replace(/[^\w.+-]+/g, "-");
    const size = { width: shape.width, height: shape.height };
    await Plotly.downloadImage({ data: traces, layout: shape }, { format: "svg", filename: name, ...size });
  }

  function begin() {
    for (const plot of all) {
      const button = tables.button("SVG", "", () => save(plot));
      button.className = "save";
      button.title = "Save this figure as SVG";
      plot.after(button);
      call(plot, plot.getAttribute("aria-label"));
    }
    const watch = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) near[entry.isIntersecting ? "add" : "delete"](entry.target);
        work();
      },
      { rootMargin: "400px" },
    );
    all.forEach((plot) => watch.observe(plot));
    dark.addEventListener("change", work);
    addEventListener("beforeprint", () => {
      printing = true;
      all.filter((plot) => shown(plot) && blocks.has(blockKey(plot))).forEach(draw);
      work(); // what was not unpacked yet
    });
    addEventListener("afterprint", () => {
      printing = false;
      all.filter((plot) => plot.drawn === "paper").forEach(draw);
      work();
    });
  }

  return { begin, show, focus, unpack };
})();
