"use strict";
// Draws each panel of the payload as lines over the model's steps; what is shown was decided before.
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const finite = (v) => typeof v === "number" && Number.isFinite(v);

  const draw = (p) => {
    const shown = p.rows.filter((d) => finite(d.value) && (!p.log || d.value > 0));
    const series = [...new Set(p.rows.map((d) => d.series))];
    return Plot.plot({
      style: { background: "none", color: "inherit", fontSize: "12px", overflow: "visible" },
      width: 575, height: 320, marginLeft: 62, marginBottom: 42,
      x: { label: p.x + " →", tickFormat: "d" },
      y: { type: p.log ? "log" : "linear", label: "↑ " + p.y, grid: true, tickFormat: p.log ? ".0e" : "~g", nice: true },
      color: { domain: series, range: payload.colours, legend: series.length > 1 },
      marks: [
        Plot.ruleX(p.marks, { stroke: "#D55E00", strokeDasharray: "4 3" }),
        Plot.lineY(shown, { x: "at", y: "value", stroke: "series", strokeWidth: 2 }),
        Plot.dot(shown, { x: "at", y: "value", fill: "series", r: shown.length > 150 ? 1.5 : 3 }),
        Plot.tip(shown, Plot.pointer({ x: "at", y: "value", title: (d) => `${d.name}\n${d.series} ${d.value.toPrecision(4)}` })),
      ],
    });
  };

  for (const panel of payload.panels) {
    document.querySelector(`figure[data-panel="${panel.name}"]`).append(draw(panel));
  }
})();
