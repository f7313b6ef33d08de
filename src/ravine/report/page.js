// Draws the figures in the reader's colour scheme, redraws them when it changes and for print, and copies commands.
(function () {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures");
  const schemes = read("schemes");
  const plots = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hover = matchMedia("(hover: hover)").matches; // a mouse; plotly would show its buttons at all times without one
  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false, // plotly.js offers an upload unless told not to
    plotlyServerURL: "",
    displayModeBar: hover ? "hover" : false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg" },
  };

  function coloured(trace, scheme) {
    if (!trace.meta || trace.meta.slot === undefined) return trace;
    const slot = trace.meta.slot;
    const colour = slot === "ink" ? scheme.ink : scheme.palette[slot % scheme.palette.length];
    return {
      ...trace,
      line: { ...trace.line, color: colour },
      marker: { ...trace.marker, color: colour },
    };
  }

  function draw(name, paper) {
    for (const plot of plots) {
      const figure = figures[plot.dataset.figure];
      const scheme = schemes[name];
      const layout = { ...figure.layout, template: scheme.template };
      if (!hover) layout.dragmode = false; // a finger on a figure scrolls the page
      if (paper) {
        // A4 less its margins is 680 px wide; pairs and triples share it as in the style sheet.
        layout.width = plot.closest(".triple") ? 218 : plot.closest(".pair") ? 332 : 680;
        layout.height = Math.round(0.64 * layout.height);
      }
      plot.style.height = layout.height + "px";
      Plotly.react(plot, figure.data.map((t) => coloured(t, scheme)), layout, config);
    }
  }

  const onScreen = () => draw(dark.matches ? "dark" : "light");
  onScreen();
  dark.addEventListener("change", onScreen);
  addEventListener("beforeprint", () => draw("light", true));
  addEventListener("afterprint", onScreen);

  for (const button of document.querySelectorAll(".copy")) {
    const code = button.parentElement.querySelector("code");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // no clipboard here: select, the reader copies
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }
})();
