// Theme, sortable tables, copyable commands, plots. Loaded in the head so that the stored theme is set before the first paint.
"use strict";

(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Storage may be refused on file:// pages; the page then simply forgets the choice.
  const stored = (value) => {
    try {
      return value === undefined ? localStorage.getItem("theme") : localStorage.setItem("theme", value);
    } catch {
      return null;
    }
  };
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();

  // ---- tables: a click on a header sorts by data-sort; cells without a value stay at the bottom, whatever the direction
  function sortBy(header) {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    const column = header.cellIndex;
    const body = header.closest("table").tBodies[0];
    const value = (row) => row.cells[column]?.dataset.sort ?? "";
    const order = (a, b) => (header.dataset.kind === "number" ? Number(a) - Number(b) : a.localeCompare(b));
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return ascending ? order(x, y) : order(y, x);
    });
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    body.append(...rows);
  }

  function makeSortable(table) {
    for (const header of table.tHead.rows[0].cells) {
      if (!header.dataset.kind) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sortBy(header));
      header.append(button);
    }
  }

  // ---- commands
  async function copy(button) {
    const code = button.nextElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  // ---- plots: plotly comes with the first that is seen, as it takes longer to start than all else
  let plotly;
  const loaded = () =>
    (plotly ??= new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = "plotly.min.js";
      script.addEventListener("load", resolve);
      document.head.append(script);
    }));

  // The figures name roles, the style sheet gives each its colour in both themes.
  async function draw(box) {
    await loaded();
    const plot = box.querySelector(".plot");
    const colour = (name) => {
      plot.style.color = `var(--${name})`;
      return getComputedStyle(plot).color;
    };
    const figure = JSON.parse(box.querySelector("script").textContent);
    for (const trace of figure.data) {
      const ink = colour(trace.meta.role);
      trace.marker = { ...trace.marker, color: ink, line: { width: 1, color: colour("surface") } };
      trace.line = { ...trace.line, color: ink };
      trace.colorscale = [[0, colour("sunken")], [1, ink]];
      for (const bars of ["error_x", "error_y"]) if (trace[bars]) trace[bars].color = ink;
      trace.textfont = trace.type === "heatmap" ? { size: 11 } : { color: colour("muted"), size: 11 };
    }
    const { layout } = figure;
    const axis = { gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), tickcolor: colour("line") };
    layout.xaxis = { ...layout.xaxis, ...axis };
    layout.yaxis = { ...layout.yaxis, ...axis };
    // On a narrow screen the legend stands upright and needs room of its own.
    const upright = plot.clientWidth < 560 && layout.showlegend !== false;
    if (upright) {
      layout.legend = { ...layout.legend, orientation: "v" };
      layout.height += 20 * figure.data.filter((trace) => trace.showlegend !== false).length;
    }
    plot.style.height = `${layout.height}px`;
    layout.font = { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("ink") };
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.hoverlabel = { bgcolor: colour("sunken"), bordercolor: colour("line"), font: { color: colour("ink") }, align: "left" };
    for (const shape of layout.shapes ?? []) shape.line.color = colour("muted");
    return Plotly.react(plot, figure.data, layout, { displayModeBar: false, responsive: true });
  }

  // ---- thousands of tables and plots: each is made ready when it is about to be seen
  const drawn = new Set();
  const ready = (element) => {
    if (element.matches("table")) return makeSortable(element);
    drawn.add(element);
    return draw(element);
  };
  const soon = new IntersectionObserver(
    (seen) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) continue;
        soon.unobserve(target);
        ready(target);
      }
    },
    { rootMargin: "800px" },
  );
  const redraw = () => drawn.forEach(draw);
  addEventListener("beforeprint", () => document.querySelectorAll("figure[data-plot]").forEach(ready));

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("table.sortable, figure[data-plot]").forEach((element) => soon.observe(element));
    document.addEventListener("click", ({ target }) => target.matches(".command button") && copy(target));
    const toggle = document.getElementById("theme");
    const label = () => (toggle.textContent = theme() === "dark" ? "Light" : "Dark");
    toggle.hidden = false;
    label();
    toggle.addEventListener("click", () => {
      root.dataset.theme = theme() === "dark" ? "light" : "dark";
      stored(root.dataset.theme);
      label();
      redraw();
    });
    dark.addEventListener("change", () => (label(), redraw()));
  });
})();
