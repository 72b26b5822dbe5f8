// --- Charts: Vega-Lite draws them as SVG. Colours are variables of page.css, so that they follow the light or
// dark scheme and the printer. A datum with a `hint` says what is shown where the pointer is. ---

const COLOURS = 7;
// The marks of lines, and how the legend writes them.
const SHAPES = { circle: "●", square: "■", "triangle-up": "▲", diamond: "◆", cross: "✚", "triangle-down": "▼", "triangle-right": "▶" };
const DASHES = [[1, 0], [7, 4], [2, 3], [9, 3, 2, 3]];
const CONFIG = {
  background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
  axis: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 160, titleLimit: 300,
    ticks: false, domain: false, labelPadding: 6, grid: true, gridOpacity: 1 },
};

// Return the look of a line by its number. Colours come again after seven lines, with other shapes and dashes.
function lineStyle(index) {
  const round = Math.floor(index / COLOURS), shapes = Object.keys(SHAPES);
  return { colour: `var(--series-${index % COLOURS})`, shape: shapes[(index + round) % shapes.length],
    dash: DASHES[round % DASHES.length] };
}

// Draw a chart into an element. If it is asked for again meanwhile, only the last one is drawn next.
function showChart(element, spec, drawn = () => {}) {
  element.wanted = { spec, drawn };
  element.drawing ??= drawWanted(element).finally(() => { element.drawing = null; });
}
async function drawWanted(element) {
  while (element.wanted) {
    const { spec, drawn } = element.wanted;
    element.wanted = null;
    element.chart?.finalize();
    // The policy of the page forbids to compile texts, so Vega interprets its expressions: `ast`.
    element.chart = await vegaEmbed(element, { config: CONFIG, autosize: { type: "fit-x", contains: "padding" }, ...spec },
      { renderer: "svg", ast: true, actions: false, defaultStyle: false, tooltip: false });
    // The datum of what Vega adds around the nearest mark is that mark. Its own tooltips leave out lines.
    element.chart.view.addEventListener("pointermove", (event, item) => showHint(event, (item?.datum?.datum ?? item?.datum)?.hint));
    element.onpointerleave = (event) => showHint(event);
    drawn(element.chart.view);
  }
}
function showNoChart(element, text) {
  element.wanted = null;
  element.chart?.finalize();
  element.chart = null;
  element.replaceChildren(make("p", { textContent: text }));
}

// Show the hint of the datum under the pointer. Its texts come from runs and stay texts.
function showHint(event, hint) {
  const box = find("#hint");
  box.hidden = !hint;
  if (!hint) return;
  box.replaceChildren(make("strong", { textContent: hint.title }), make("table", {}, ...hint.rows.map(({ label, text, look }) =>
    make("tr", {}, make("th", {}, ...(look ? [lineKey(look)] : []), label), make("td", { textContent: text })))));
  const { innerWidth, innerHeight } = window, { offsetWidth, offsetHeight } = box;
  const left = event.clientX + 16 + offsetWidth < innerWidth ? event.clientX + 16 : event.clientX - 16 - offsetWidth;
  box.style.left = `${Math.max(4, Math.min(left, innerWidth - offsetWidth - 4))}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - offsetHeight - 4))}px`;
}

// Return a picture of a line with its mark, as the chart draws it.
function lineKey({ colour, dash, shape }) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const draw = (tag, attributes, ...children) => {
    const element = document.createElementNS(svg.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  for (const [name, value] of Object.entries({ viewBox: "0 0 34 12", class: "key", "aria-hidden": "true" })) svg.setAttribute(name, value);
  svg.append(draw("line", { x1: 0, x2: 34, y1: 6, y2: 6, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }),
    draw("text", { x: 17, y: 6, fill: colour }, SHAPES[shape]));
  return svg;
}

// Lines over steps: `lines` have a look and points { step, value, low, high }, `steps` the hints at each step.
function curvesSpec({ lines, steps, title, log, zoom, description, height }) {
  const rows = lines.flatMap((line) => line.points.map((point) => ({ ...point, ...line.look, line: line.name })));
  const marks = lines.flatMap((line) => marked(line.points).map((point) => ({ step: point.step, value: point.value,
    ...line.look, text: `${line.name}, step ${point.step}: ${format(point.value)}` })));
  const x = { field: "step", type: "quantitative", scale: { zero: false, nice: false, padding: 8 },
    axis: { title: "step", tickCount: 6, grid: false } };
  const y = { field: "value", type: "quantitative", scale: { zero: false, type: log ? "log" : "linear" },
    axis: { title, tickCount: 6 } };
  const bands = rows.filter((row) => row.low !== row.high);
  const look = { color: { field: "colour", scale: null }, detail: { field: "line" } };
  return {
    description, width: "container", height, encoding: { x },
    layer: [
      ...(bands.length ? [{ data: { values: bands }, mark: { type: "area", opacity: 0.18, aria: false },
        encoding: { y: { ...y, field: "low" }, y2: { field: "high" }, ...look } }] : []),
      { data: { values: rows }, mark: { type: "line", strokeWidth: 2, strokeJoin: "round" },
        params: [{ name: "zoom", bind: "scales", ...(zoom ? { value: zoom } : {}),
          select: { type: "interval", zoom: "wheel![event.ctrlKey || event.metaKey]" } }],
        encoding: { y, ...look, strokeDash: { field: "dash", scale: null }, description: { field: "line" } } },
      { data: { values: marks }, mark: { type: "point", filled: true, size: 45, opacity: 1 },
        encoding: { y, color: look.color, shape: { field: "shape", scale: null }, description: { field: "text" } } },
      { data: { values: steps }, mark: { type: "rule", aria: false, stroke: "var(--soft)" },
        params: [{ name: "pointed", select: { type: "point", fields: ["step"], on: "pointermove", nearest: true,
          clear: "pointerout" } }],
        encoding: { opacity: { condition: { param: "pointed", empty: false, value: 0.7 }, value: 0 } } },
    ],
  };
}
// Return about ten of the points, the last one included. A line of one point would be seen by nothing else.
function marked(points) {
  const stride = Math.ceil(points.length / 10);
  return points.filter((_, index) => (points.length - 1 - index) % stride === 0);
}

// A cell for each pair of `row` and `column`, as strong as its `strength` from 0 to 1, hatched where it is `bad`.
function heatMapSpec({ cells, rows, columns, rowTitle, columnTitle, description }) {
  const lines = cells.reduce((most, cell) => Math.max(most, cell.text.length), 1);
  const axis = { grid: false, labelAngle: 0, labelOverlap: false };
  const box = { type: "rect", stroke: "var(--line)" };
  return {
    description, width: { step: 108 }, height: { step: 18 * lines + 22 }, autosize: "pad", data: { values: cells },
    encoding: {
      x: { field: "column", type: "ordinal", scale: { domain: columns }, axis: { ...axis, orient: "top", title: columnTitle, labelLimit: 100 } },
      y: { field: "row", type: "ordinal", scale: { domain: rows }, axis: { ...axis, title: rowTitle } },
      description: { field: "label" },
    },
    layer: [
      { mark: { ...box, fill: "var(--good)" }, encoding: { fillOpacity: { field: "strength", type: "quantitative", scale: null } } },
      { transform: [{ filter: "datum.bad" }], mark: { ...box, fill: "url(#hatch)", aria: false } },
      { mark: { type: "text", fontSize: 12, lineHeight: 16, aria: false, baseline: "middle", dy: { expr: "datum.bad ? -8 : 0" } },
        encoding: { text: { field: "text" } } },
    ],
  };
}

// A line for each run through the places, from 0 to 1, of its values in every column.
function parallelSpec({ lines, ticks, columns, width, description }) {
  const common = { detail: { field: "row" }, order: { field: "index" } };
  const mark = { type: "line", cursor: "pointer" };
  return {
    description, width, height: 320,
    encoding: {
      x: { field: "column", type: "ordinal", scale: { type: "point", domain: columns, padding: 0.4 },
        axis: { orient: "top", title: null, labelAngle: 0, labelOverlap: false, labelLimit: width / columns.length - 6 } },
      y: { field: "place", type: "quantitative", scale: { domain: [0, 1] }, axis: null },
    },
    layer: [
      { data: { values: lines }, mark: { ...mark, strokeWidth: 1.5 },
        encoding: { ...common, description: { field: "label" },
          color: { field: "rank", type: "quantitative", legend: null,
            scale: { domain: [0, 1], range: ["#2878d8", "#e0701a"], interpolate: "lab" } },
          opacity: { condition: { param: "pointed", empty: false, value: 1 }, value: Math.max(0.3, Math.min(0.9, 60 / lines.length)) },
          strokeWidth: { condition: { param: "pointed", empty: false, value: 4 }, value: 1.5 },
          strokeDash: { field: "dash", scale: null } } },
      // A thin line is hard to point at, so a wide one that is not seen lies over it.
      { data: { values: lines }, mark: { ...mark, strokeWidth: 9, opacity: 0, aria: false }, encoding: common,
        params: [{ name: "pointed", select: { type: "point", fields: ["row"], on: "pointerover", clear: "pointerout" } }] },
      { data: { values: ticks }, mark: { type: "text", align: "left", dx: 6, fontSize: 12, aria: false },
        encoding: { text: { field: "text" } } },
    ],
  };
}
