"use strict";
// Draws the panels of the payload with Observable Plot; all decisions about what is shown were made before.
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const { labels, colours } = payload;
  const number = (v) => (v === "inf" ? Infinity : v === "-inf" ? -Infinity : v);
  const finite = (v) => typeof v === "number" && Number.isFinite(v);
  const positive = (v) => (finite(v) && v > 0 ? v : NaN);
  const colour = { domain: labels, range: colours };
  const left = 20 + 6.6 * Math.max(...labels.map((l) => l.length));
  const base = { style: { background: "none", color: "inherit", fontSize: "12px", overflow: "visible" } };

  const draw = {
    forest: (p) => {
      const rows = p.rows.map((d) => ({ ...d, low: number(d.low), high: number(d.high) }));
      const near = rows.filter((d) => !d.off), off = rows.filter((d) => d.off);
      const edge = (d) => p.domain[d.difference < p.domain[0] ? 0 : 1];
      return Plot.plot({
        ...base, width: 640, height: 70 + 34 * rows.length, marginLeft: left, marginRight: 120, marginBottom: 42, insetLeft: 14, insetRight: 14,
        x: { label: p.x + " →", grid: true, domain: p.domain }, y: { label: null, domain: rows.map((d) => d.label) }, color: colour,
        marks: [
          Plot.ruleX([0], { stroke: "currentColor", strokeOpacity: 0.6 }),
          Plot.ruleY(near.filter((d) => finite(d.low) && finite(d.high)), { y: "label", x1: "low", x2: "high", stroke: "label", strokeWidth: 3 }),
          Plot.dot(near, { y: "label", x: "difference", fill: "label", r: 5 }),
          Plot.dot(off, { y: "label", x: edge, fill: "label", r: 6, symbol: "triangle", rotate: (d) => (d.difference < 0 ? -90 : 90) }),
          Plot.text(off, { y: "label", x: edge, text: (d) => d.difference.toPrecision(3), dx: 12, textAnchor: "start" }),
          Plot.text(rows, { y: "label", text: (d) => `${d.verdict}, ${d.note}`, frameAnchor: "right", dx: 118, textAnchor: "end", fontSize: 11 }),
          Plot.tip(near, Plot.pointer({ y: "label", x: "difference", title: (d) =>
            `${d.label}: ${d.difference.toFixed(3)}\n95 % interval ${finite(d.low) ? `${d.low.toFixed(3)} to ${d.high.toFixed(3)}` : "none"}\n${d.verdict}, ${d.note}` })),
        ],
      });
    },
    rates: (p) => {
      const rows = p.rows.map((d) => ({ ...d, low: positive(d.low), median: positive(d.median), high: positive(d.high) }));
      return Plot.plot({
        ...base, width: 640, height: 340, marginLeft: 55, marginBottom: 42,
        x: { type: "log", label: "learning rate →", tickFormat: "~g", ticks: [...new Set(rows.map((d) => d.rate))] },
        y: { type: "log", label: "↑ final validation loss", grid: true, tickFormat: "~g" }, color: colour,
        marks: [
          Plot.areaY(rows, { x: "rate", y1: "low", y2: "high", fill: "label", fillOpacity: 0.15 }),
          Plot.lineY(rows, { x: "rate", y: "median", stroke: "label", strokeWidth: 2 }),
          Plot.dot(rows, { x: "rate", y: "median", fill: "label", r: 3 }),
          Plot.dot(rows.filter((d) => d.chosen), { x: "rate", y: "median", stroke: "label", r: 6.5, strokeWidth: 2 }),
          Plot.tip(rows, Plot.pointer({ x: "rate", y: "median", title: (d) =>
            `${d.label} at ${d.rate}${d.chosen ? " (chosen)" : ""}\nmedian ${d.median.toPrecision(4)}\nquartiles ${d.low.toPrecision(4)} to ${d.high.toPrecision(4)}${d.diverged ? `\n${d.diverged} diverged` : ""}` })),
        ],
      });
    },
    outcomes: (p) => Plot.plot({
      ...base, width: 640, height: 70 + 28 * labels.length, marginLeft: left, marginBottom: 42,
      x: { label: "share of runs, % →", percent: true, domain: [0, 100] }, y: { label: null, domain: labels },
      color: { domain: ["trained", "stuck", "diverged"], range: ["#009E73", "#E69F00", "#D55E00"], legend: true },
      marks: [
        Plot.barX(p.rows, { y: "label", x: "share", fill: "outcome", order: ["trained", "stuck", "diverged"], tip: true }),
        Plot.ruleX([0]),
      ],
    }),
    arrival: (p) => Plot.plot({
      ...base, width: 640, height: 320, marginLeft: 50, marginBottom: 42,
      x: { label: "steps →", domain: [0, p.last], grid: true }, y: { label: "↑ share of runs arrived, %", percent: true, domain: [0, 100], grid: true }, color: colour,
      marks: [
        Plot.lineY(p.rows, { x: "step", y: "share", stroke: "label", strokeWidth: 2, curve: "step-after" }),
        Plot.tip(p.rows, Plot.pointer({ x: "step", y: "share", title: (d) => `${d.label}\n${Math.round(100 * d.share)} % by step ${d.step}` })),
      ],
    }),
    curves: (p) => {
      const rows = p.rows.map((d) => ({ ...d, loss: positive(d.loss) }));
      const columns = Math.min(4, labels.length);
      const at = new Map(labels.map((l, i) => [l, { fx: i % columns, fy: Math.floor(i / columns) }]));
      const fx = (d) => at.get(d.label).fx, fy = (d) => at.get(d.label).fy;
      const titles = labels.map((label) => ({ label }));
      return Plot.plot({
        ...base, width: 1180, height: 60 + 190 * Math.ceil(labels.length / columns), marginLeft: 55,
        fx: { axis: null }, fy: { axis: null, padding: 0.25 },
        x: { label: "steps →", ticks: 4 }, marginBottom: 42, y: { type: "log", label: null, grid: true, ticks: 4, tickFormat: "~g" }, color: colour,
        marks: [
          Plot.frame({ strokeOpacity: 0.2 }),
          Plot.lineY(rows.filter((d) => d.line !== "median"), { fx, fy, x: "step", y: "loss", z: "line", stroke: "label", strokeOpacity: 0.35, strokeWidth: 1 }),
          Plot.lineY(rows.filter((d) => d.line === "median"), { fx, fy, x: "step", y: "loss", stroke: "label", strokeWidth: 2.5 }),
          Plot.text(titles, { fx, fy, text: "label", frameAnchor: "top-left", dy: -14, fontWeight: 600 }),
          Plot.tip(rows, Plot.pointer({ fx, fy, x: "step", y: "loss", title: (d) => `${d.label}, ${d.line}\nstep ${d.step}: ${d.loss.toPrecision(4)}` })),
        ],
      });
    },
    signals: (p) => {
      const names = { signal_rms: "pre-activation", gradient_rms: "gradient" };
      const rows = p.rows.map((d) => ({ ...d, kind: names[d.kind], median: positive(d.median), low: positive(d.low), high: positive(d.high) }));
      const half = (kind) => Plot.plot({
        ...base, width: 575, height: 340, marginLeft: 65, marginBottom: 42,
        x: { label: "layer →", ticks: d3.range(1, 1 + d3.max(rows, (d) => d.layer)), tickFormat: "d" },
        y: { type: "log", label: `↑ ${kind} RMS`, grid: true, tickFormat: ".0e" }, color: colour,
        marks: [
          Plot.areaY(rows.filter((d) => d.kind === kind), { x: "layer", y1: "low", y2: "high", fill: "label", fillOpacity: 0.2 }),
          Plot.lineY(rows.filter((d) => d.kind === kind), { x: "layer", y: "median", stroke: "label", strokeWidth: 2 }),
          Plot.dot(rows.filter((d) => d.kind === kind), { x: "layer", y: "median", fill: "label", r: 3 }),
          Plot.tip(rows.filter((d) => d.kind === kind), Plot.pointer({ x: "layer", y: "median", title: (d) =>
            `${d.label}, ${d.name}\n${d.kind} ${d.median.toExponential(2)}\n10 to 90 %: ${d.low.toExponential(2)} to ${d.high.toExponential(2)}` })),
        ],
      });
      const box = document.createElement("div");
      box.style.cssText = "display:flex;flex-wrap:wrap;gap:1rem";
      box.append(half("pre-activation"), half("gradient"));
      return box;
    },
  };

  const legend = () => {
    const list = document.createElement("ul");
    list.className = "legend";
    labels.forEach((label, i) => {
      const item = document.createElement("li"), patch = document.createElement("span");
      patch.style.background = colours[i];
      item.append(patch, label);
      list.append(item);
    });
    return list;
  };

  for (const panel of payload.panels) {
    const figure = document.querySelector(`figure[data-panel="${panel.name}"]`);
    figure.append(draw[panel.name](panel));
    if (["rates", "arrival", "signals"].includes(panel.name)) figure.append(legend());
    if (["curves", "signals"].includes(panel.name)) figure.closest("section").classList.add("wide");
  }
})();
