"use strict";
// Draws the charts of the payload with Observable Plot, at the width that there is; what is shown was decided before.
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const finite = (v) => typeof v === "number" && Number.isFinite(v);
  const shown = (v) => {
    if (!finite(v)) return "not finite";
    const size = Math.abs(v);
    return d3.format(size > 0 && (size < 1e-4 || size >= 1e5) ? ".3~e" : ".4~g")(v).replaceAll("−", "-");
  };
  const base = { style: { background: "none", color: "inherit", fontSize: "12px", overflow: "visible" } };

  // Powers of ten where several are spanned, else round numbers between them; few enough to be read.
  const logTicks = (values, most) => {
    const low = d3.min(values), high = d3.max(values);
    if (!(low > 0)) return undefined;
    const factors = high / low > 300 ? [1] : high / low > 12 ? [1, 3] : [1, 2, 3, 5, 7];
    const exponents = d3.range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1);
    const ticks = exponents.flatMap((e) => factors.map((f) => f * 10 ** e)).filter((t) => t >= low * 0.999 && t <= high * 1.001);
    return ticks.length > 1 ? thinned(ticks, most) : undefined;
  };
  const thinned = (ticks, most) => ticks.filter((_, i) => i % Math.ceil(ticks.length / most) === 0);
  // Steps and counts lie at whole numbers: where there are few, nothing stands between them.
  const counted = (values, most) => {
    const [low, high] = d3.extent(values);
    return values.every(Number.isInteger) && high - low < most ? d3.range(low, high + 1) : most;
  };
  const axis = (a, values, most) => ({
    type: a.log ? "log" : "linear", domain: a.domain ?? undefined,
    ticks: a.ticks.length ? thinned(a.ticks, most) : a.log ? logTicks(a.domain ?? values, most) : a.domain ? most : counted(values, most),
    tickFormat: shown,
  });

  // Each point of each line, with what a tip says of it.
  const pointsOf = (chart) => {
    const usable = (a, v) => (finite(v) && (!a.log || v > 0) ? v : NaN);
    return chart.lines.map((line) => line.x.map((x, i) => ({
      x: usable(chart.x, x), y: usable(chart.y, line.y[i]),
      low: usable(chart.y, line.low[i]), high: usable(chart.y, line.high[i]),
      title: [
        [line.label, line.name, line.notes[i]].filter(Boolean).join(", "),
        `${chart.x.label} ${shown(x)}: ${shown(line.y[i])}`,
        ...(line.low.length ? [`${chart.band}: ${shown(line.low[i])} to ${shown(line.high[i])}`] : []),
      ].join("\n"),
    })));
  };

  const linePicture = (chart, styles, lines, points, width, options = {}) => {
    const curve = chart.steps ? "step-after" : "linear";
    const marks = lines.flatMap((line, k) => {
      const { colour, symbol } = styles[line.label], own = points[k], drawn = own.filter((d) => finite(d.y) && finite(d.x));
      const thin = line.kind === "thin", dashed = line.kind === "dashed", dots = !thin && !dashed && !options.small && drawn.length <= 60;
      return [
        ...(line.low.length ? [Plot.areaY(own, { x: "x", y1: "low", y2: "high", fill: colour, fillOpacity: dashed ? 0.07 : 0.15, curve })] : []),
        Plot.lineY(own, {
          x: "x", y: "y", stroke: dashed ? `color-mix(in srgb, ${colour} 45%, currentColor)` : colour, curve, strokeWidth: thin ? 1 : dashed ? 1.5 : 2.2,
          strokeOpacity: thin ? 0.45 : 1, strokeDasharray: dashed ? "5 4" : undefined,
        }),
        ...(dots ? [Plot.dot(drawn, { x: "x", y: "y", fill: colour, symbol, r: 4 })] : []),
        Plot.dot(line.rings.map((i) => own[i]).filter((d) => finite(d.y)), { x: "x", y: "y", stroke: colour, r: 8, strokeWidth: 1.5 }),
      ];
    });
    const all = points.flat().filter((d) => finite(d.x) && finite(d.y));
    const values = all.flatMap((d) => [d.y, d.low, d.high]).filter(finite);
    return Plot.plot({
      ...base, width, height: options.height ?? Math.max(260, Math.min(340, 0.6 * width)),
      marginLeft: 56, marginRight: 14, marginTop: options.small ? 14 : 26, marginBottom: 38,
      x: { label: `${chart.x.label} →`, ...axis(chart.x, all.map((d) => d.x), Math.max(3, Math.floor(width / 75))) },
      y: { label: options.small ? null : `↑ ${chart.y.label}`, grid: true, ...axis(chart.y, values, 6) },
      marks: [
        ...(options.small ? [Plot.frame({ strokeOpacity: 0.2 })] : []),
        Plot.ruleX(chart.rules, { stroke: "currentColor", strokeDasharray: "4 3", strokeOpacity: 0.7 }),
        ...marks,
        Plot.tip(all, Plot.pointer({ x: "x", y: "y", title: "title" })),
      ],
    });
  };

  // A picture for each label, all at one scale.
  const linesApart = (chart, styles, width) => {
    const box = document.createElement("div"), points = pointsOf(chart);
    box.className = "apart";
    const columns = Math.max(1, Math.min(Object.keys(styles).length, Math.floor((width + 16) / 256)));
    const options = { small: true, height: 190 };
    for (const label of Object.keys(styles)) {
      const mine = chart.lines.flatMap((line, k) => (line.label === label ? [k] : []));
      const cell = document.createElement("div"), title = document.createElement("h4");
      title.textContent = label;
      cell.append(title, linePicture(chart, styles, mine.map((k) => chart.lines[k]), mine.map((k) => points[k]), Math.floor(width / columns) - 16, options));
      box.append(cell);
    }
    return box;
  };

  // Names stand above what they name, so that they fit any width; long ones are broken.
  const rowHeight = (texts, width) => 34 + 15 * Math.max(...texts.map((t) => Math.ceil((8.2 * t.length) / width)));
  const named = (rows, text, width, height) => Plot.text(rows, {
    y: "at", text, frameAnchor: "left", textAnchor: "start", lineAnchor: "top", dx: 4, dy: 4 - height / 2, fontSize: 12.5,
    lineWidth: width / 14.5, lineHeight: 1.2, fontWeight: 600,
  });
  const rowsFrame = (rows, width, height) => ({
    ...base, width, height: 60 + height * rows.length, marginLeft: 12, marginRight: 40, marginTop: 8, marginBottom: 42,
    y: { type: "band", axis: null, domain: rows.map((d) => d.at), padding: 0 },
  });

  const draw = {
    lines: (chart, styles, width) => (chart.apart ? linesApart(chart, styles, width) : linePicture(chart, styles, chart.lines, pointsOf(chart), width)),
    forest: (chart, styles, width) => {
      const [low, high] = chart.x.domain, text = (d) => `${d.label} (${d.note})`, inner = width - 52;
      const rows = chart.rows.map((d, at) => ({ ...d, at, title: tipOf.forest(d) }));
      const off = rows.filter((d) => d.off), height = rowHeight(rows.map(text), inner);
      const dy = height / 2 - 14, edge = (d) => (d.off ? (d.effect < low ? low : high) : d.effect);
      return Plot.plot({
        ...rowsFrame(rows, width, height), insetLeft: 16, insetRight: 16,
        x: { label: `${chart.x.label} →`, grid: true, domain: chart.x.domain, ticks: Math.max(3, Math.floor(width / 90)) },
        marks: [
          Plot.ruleX([0], { stroke: "currentColor", strokeOpacity: 0.7 }),
          named(rows, text, inner, height),
          ...rows.map((d) => [d, styles[d.group]]).flatMap(([d, { colour, symbol }]) => d.off
            ? [Plot.dot([d], { y: "at", x: edge, dy, fill: colour, r: 6, symbol: "triangle", rotate: d.effect < low ? -90 : 90 })]
            : [
              Plot.ruleY(finite(d.low) && finite(d.high) ? [d] : [], { y: "at", x1: "low", x2: "high", dy, stroke: colour, strokeWidth: 3 }),
              Plot.dot([d], { y: "at", x: "effect", dy, fill: colour, symbol, r: 5.5 }),
            ]),
          Plot.tickX(rows.flatMap(({ at, matters }) => matters.map((x) => ({ at, x }))), {
            y: "at", x: "x", stroke: "currentColor", strokeWidth: 2, insetTop: height - 22, insetBottom: 6,
          }),
          Plot.text(off, { y: "at", x: edge, dy, dx: 12, text: (d) => shown(d.effect), textAnchor: "start" }),
          Plot.tip(rows, Plot.pointer({ y: "at", x: edge, dy, title: "title" })),
        ],
      });
    },
    shares: (chart, styles, width) => {
      const inner = width - 52, text = (d) => `${d.label} (${said(chart, d)})`, rows = chart.rows.map((d, at) => ({ ...d, at }));
      const height = rowHeight(rows.map(text), inner);
      const cells = rows.flatMap((d) => chart.parts.map((part, i) => ({ at: d.at, part, share: (100 * d.counts[i]) / d3.sum(d.counts), title: text(d) })));
      return Plot.plot({
        ...rowsFrame(rows, width, height), x: { label: `${chart.x.label} →`, domain: chart.x.domain },
        color: { domain: chart.parts, range: chart.colours },
        marks: [
          Plot.barX(cells, { y: "at", x: "share", fill: "part", order: chart.parts, insetTop: height - 22, insetBottom: 6, title: "title", tip: true }),
          named(rows, text, inner, height),
          Plot.ruleX([0], { stroke: "currentColor" }),
        ],
      });
    },
  };

  // One row of cells for each name; long names lose their beginning, and only some stand there where rows are many.
  const cellsOf = (chart) => chart.values.flatMap((row, at) => row.map((value, i) => ({
    at, place: i + 1, value, title: `${chart.rows[at]}\n${chart.x.label} ${i + 1}: ${shown(value)}`,
  })));
  draw.heat = (chart, _, width) => {
    const cells = cellsOf(chart), longest = Math.max(8, Math.min(d3.max(chart.rows, (d) => d.length), Math.floor(width / 22)));
    const name = (at) => (chart.rows[at].length > longest ? `…${chart.rows[at].slice(1 - longest)}` : chart.rows[at]);
    const height = Math.max(5, Math.min(18, 640 / chart.rows.length)), each = Math.ceil(14 / height);
    const places = d3.range(1, (d3.max(chart.values, (row) => row.length) ?? 0) + 1);
    return Plot.plot({
      ...base, width, height: 62 + height * chart.rows.length, marginLeft: 12 + 7.2 * longest, marginRight: 14, marginTop: 8, marginBottom: 42,
      x: { type: "band", domain: places, label: `${chart.x.label} →`, padding: 0, ticks: thinned(places, Math.max(3, Math.floor(width / 90))) },
      y: { type: "band", domain: d3.range(chart.rows.length), label: null, padding: 0, tickFormat: name, ticks: d3.range(0, chart.rows.length, each), tickSize: 0 },
      color: { type: "threshold", domain: chart.value.ticks, scheme: "PuOr", label: chart.value.label, legend: true },
      marks: [
        Plot.cell(cells.filter((d) => finite(d.value)), { x: "place", y: "at", fill: "value" }),
        Plot.text(cells.filter((d) => !finite(d.value)), { x: "place", y: "at", text: () => "×", fontSize: Math.min(10, height) }),
        Plot.frame({ strokeOpacity: 0.3 }),
        Plot.tip(cells, Plot.pointer({ x: "place", y: "at", title: "title" })),
      ],
    });
  };

  const said = (chart, d) => chart.parts.map((part, i) => [d.counts[i], part]).filter(([n]) => n).map((pair) => pair.join(" ")).join(", ");
  const tipOf = {
    forest: (d) => `${d.label}: ${shown(d.effect)}\n95 % interval ${finite(d.low) && finite(d.high) ? `${shown(d.low)} to ${shown(d.high)}` : "none"}\n${d.note}`,
  };

  // What the arrow keys read out, point by point.
  const readings = {
    lines: (chart) => pointsOf(chart).filter((_, k) => chart.lines[k].kind !== "thin").flat().map((d) => d.title),
    forest: (chart) => chart.rows.map(tipOf.forest),
    heat: (chart) => cellsOf(chart).map((d) => d.title),
    shares: (chart) => chart.rows.map((d) => `${d.label}: ${said(chart, d)}`),
  };
  const readable = (host, texts, reading) => {
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    let at = -1;
    host.addEventListener("keydown", (event) => {
      if (!(event.key in moves) || !texts.length) return;
      event.preventDefault();
      at = Math.max(0, Math.min(texts.length - 1, at + moves[event.key]));
      reading.textContent = texts[at];
    });
    host.addEventListener("blur", () => { reading.textContent = ""; });
  };

  const symbols = {
    circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle, diamond: d3.symbolDiamond,
    cross: d3.symbolCross, star: d3.symbolStar, wye: d3.symbolWye,
  };
  const sample = (text, colour, symbol, dashed) => {
    const item = d3.create("li"), svg = item.append("svg").attr("width", 28).attr("height", 14).attr("aria-hidden", "true");
    svg.append("line").attr("x2", 28).attr("y1", 7).attr("y2", 7).attr("stroke", colour).attr("stroke-width", 2).attr("stroke-dasharray", dashed ? "5 4" : null);
    if (symbol) svg.append("path").attr("d", d3.symbol(symbols[symbol], 50)()).attr("transform", "translate(14,7)").attr("fill", colour);
    item.append("span").text(text);
    return item.node();
  };
  const legend = (panel) => {
    const charts = panel.charts.filter((chart) => chart.kind === "lines" && !chart.apart);
    const labels = Object.entries(panel.styles).filter(([label]) => charts.some((c) => c.lines.some((l) => l.label === label)));
    const dashed = new Set(charts.map((chart) => chart.dashed).filter(Boolean));
    if (labels.length + dashed.size < 2) return [];
    return [...labels.map(([label, s]) => sample(label, s.colour, s.symbol)), ...[...dashed].map((text) => sample(text, "currentColor", null, true))];
  };

  const redrawn = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (contentRect.width > 0 && Math.abs(contentRect.width - target.drawnAt) > 1) target.redraw(contentRect.width);
    }
  });
  for (const panel of payload.panels) {
    const figure = document.querySelector(`figure[data-panel="${panel.name}"]`);
    figure.querySelector(".legend").append(...legend(panel));
    figure.querySelectorAll(".chart").forEach((host, i) => {
      const chart = panel.charts[i];
      host.redraw = (width) => {
        host.drawnAt = width;
        host.replaceChildren(draw[chart.kind](chart, panel.styles, Math.floor(width)));
      };
      host.redraw(host.clientWidth);
      readable(host, readings[chart.kind](chart), figure.querySelector(".reading"));
      redrawn.observe(host);
    });
  }
})();
