"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
// The number of each column in a row of the table.
const columnIndex = Object.fromEntries(data.columns.map((column, index) => [column.name, index]));
const PALETTE = ["#0b6fd0", "#d1540a", "#23883a", "#b3308e", "#8a6d00", "#0d8a8a", "#7a4fd0", "#b02a37"];
// Statuses of runs that did not complete.
const BAD = new Set(["diverged", "pruned", "failed"]);
// Rows are numbers: `order` holds all of them as they are sorted, `visible` those that pass the filter.
const state = { order: data.rows.map((_, row) => row), visible: [], sort: null, descending: false, hidden: new Set() };

// Create an HTML element. Texts that come from runs go into text nodes and never into markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
// Create an SVG element.
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const find = (selector) => document.querySelector(selector);
const cell = (row, name) => data.rows[row][columnIndex[name]];
// 1 if lower values of a column are better or it is no metric, -1 if higher values are better.
const direction = (name) => data.directions[name] ?? 1;
function format(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}
// Sort numbers by size, other values as texts, and missing values last.
function compareValues(a, b) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1;
}
// Interpolate linearly between the two nearest values.
function quantile(sorted, part) {
  const place = part * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}
const median = (values) => quantile([...values].sort((a, b) => a - b), 0.5);
const distinct = (name, rows) => [...new Set(rows.map((row) => cell(row, name)))].sort(compareValues);
function fillSelect(selector, names, selected) {
  const select = find(selector);
  select.replaceChildren(...names.map((name) => make("option", { textContent: name, value: name })));
  if (selected !== undefined) select.value = selected;
}

// --- Runs ---

// Return whether every word of the filter is part of a value in the row or is a condition that holds.
function matches(row, text) {
  const words = text.trim().split(/\s+/).filter(Boolean);
  return words.every((word) => {
    const condition = word.match(/^(.+?)(<=|>=|!=|==|=|<|>)(.+)$/);
    if (condition && condition[1] in columnIndex) {
      const [, name, operator, wanted] = condition, value = cell(row, name);
      if (value === null) return false;
      const same = typeof value === "number" ? value === Number(wanted) : String(value) === wanted;
      switch (operator) {
        case "<": return value < Number(wanted);
        case ">": return value > Number(wanted);
        case "<=": return value <= Number(wanted);
        case ">=": return value >= Number(wanted);
        case "!=": return !same;
        default: return same;
      }
    }
    return data.rows[row].some((value) => String(value ?? "").toLowerCase().includes(word.toLowerCase()));
  });
}
function showHeader() {
  const cells = data.columns.filter((column) => !state.hidden.has(column.name)).map((column) => {
    const button = make("button", { type: "button", textContent: column.name });
    const sorted = state.sort === column.name;
    if (sorted) button.append(state.descending ? " ▼" : " ▲");
    button.addEventListener("click", () => {
      state.descending = sorted ? !state.descending : direction(column.name) < 0;
      state.sort = column.name;
      const sign = state.descending ? -1 : 1;
      state.order.sort((a, b) => {
        const [x, y] = [cell(a, column.name), cell(b, column.name)];
        // Missing values are last in both directions.
        return x === null || y === null ? compareValues(x, y) : sign * compareValues(x, y);
      });
      showVisible();
      [...document.querySelectorAll("#table thead button")]
        .find((other) => other.textContent.replace(/ [▲▼]$/, "") === column.name)?.focus();
    });
    const head = make("th", { scope: "col", className: column.numeric ? "number" : "" }, button);
    head.setAttribute("aria-sort", !sorted ? "none" : state.descending ? "descending" : "ascending");
    return head;
  });
  find("#table thead").replaceChildren(make("tr", {}, ...cells));
}
function showRows() {
  const shown = data.columns.filter((column) => !state.hidden.has(column.name));
  find("#table tbody").replaceChildren(...state.visible.map((row) => make("tr", {}, ...shown.map((column) => {
    const text = format(cell(row, column.name));
    if (column.name !== "run") return make("td", { className: column.numeric ? "number" : "", textContent: text });
    const button = make("button", { type: "button", textContent: text });
    button.addEventListener("click", () => openRun(row));
    return make("td", {}, button);
  }))));
  find("#count").textContent = `${state.visible.length} of ${data.rows.length} runs`;
}
function showColumnChoices() {
  find("#columns").replaceChildren(...data.columns.map((column) => {
    const box = make("input", { type: "checkbox", checked: !state.hidden.has(column.name) });
    box.addEventListener("change", () => {
      if (box.checked) state.hidden.delete(column.name); else state.hidden.add(column.name);
      showHeader(); showRows();
    });
    return make("label", {}, box, ` ${column.name}`);
  }));
}

// --- Ranking ---

function showRanking() {
  if (!data.ranking) { find("#ranking").hidden = true; find('nav a[href="#ranking"]').hidden = true; return; }
  const { columns, rows: groups } = data.ranking;
  find("#ranking table").replaceChildren(
    make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...groups.map((group) => make("tr", {}, ...group.map((value) => make("td", {
      className: typeof value === "number" ? "number" : "", textContent: format(value) }))))));
  find("#ranking-notes").textContent = data.ranking.notes.map((note) => `${note}.`).join(" ");
}

// --- Importance ---

function showImportance() {
  const result = data.importance;
  find("#importance").hidden = find('nav a[href="#importance"]').hidden = !result;
  if (!result) return;
  const highest = Math.max(...result.keys.map(([, mean]) => mean), 1e-9);
  find("#importance table").replaceChildren(
    make("thead", {}, make("tr", {}, ...["key", "", "importance", "deviation"].map((name) =>
      make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...result.keys.map(([key, mean, deviation]) => make("tr", {},
      make("th", { scope: "row", textContent: key }),
      make("td", {}, make("meter", { max: highest, value: Math.max(mean, 0), "aria-label": `importance of ${key}` })),
      ...[mean, deviation].map((value) => make("td", { className: "number", textContent: value.toFixed(3) }))))));
  find("#importance-score").textContent = `Before shuffling, R² is ${result.score.toFixed(2)}` +
    (result.score < 0.2 ? ": too low to trust these numbers." : ".");
}

// --- Curves ---

// Return round ticks between two values, and a function that maps values to places from 0 to 1.
function axis(low, high, log) {
  const transform = log ? Math.log10 : (value) => value;
  let [from, until] = [transform(low), transform(high)];
  if (!(until > from)) { from -= 0.5; until += 0.5; }
  const ticks = [];
  const rough = (until - from) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const spacing = [1, 2, 5, 10].map((times) => times * power).find((candidate) => candidate >= rough);
  for (let tick = Math.ceil(from / spacing) * spacing; tick <= until + spacing / 1e6; tick += spacing) {
    ticks.push(log ? 10 ** tick : tick);
  }
  return { scale: (value) => (transform(value) - from) / (until - from), ticks };
}
// Return moving averages with exponentially falling weights.
function smooth(values, weight) {
  let mean = 0, norm = 0;
  return values.map((value) => {
    mean = weight * mean + (1 - weight) * value; norm = weight * norm + 1 - weight;
    return mean / norm;
  });
}
const copies = new Set(data.copies);
// Visible rows that count in statistics: a run that repeats another one does not.
const counted = () => state.visible.filter((row) => !copies.has(row));
// Return [label, rows] for visible rows that have the same keys, or the same keys except for the seed.
function groupRows(overSeeds) {
  const groups = new Map(), keys = data.keys.filter((name) => !(overSeeds && name === "seed"));
  for (const row of counted()) {
    const label = keys.length ? keys.map((name) => `${name}=${format(cell(row, name))}`).join(", ")
      : overSeeds ? "all" : format(cell(row, "run"));
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(row);
  }
  return [...groups];
}
function showCurves() {
  const name = find("#curve-value").value, log = find("#log").checked, weight = Number(find("#smoothing").value);
  const lines = [];
  for (const [label, members] of groupRows(find("#bands").checked)) {
    const byStep = new Map();
    for (const row of members) {
      const line = data.curves.runs[row][name];
      if (!line) continue;
      smooth(line[1], weight).forEach((value, index) => {
        if (log && value <= 0) return;
        if (!byStep.has(line[0][index])) byStep.set(line[0][index], []);
        byStep.get(line[0][index]).push(value);
      });
    }
    const points = [...byStep].sort((a, b) => a[0] - b[0]).map(([step, values]) => {
      values.sort((a, b) => a - b);
      return [step, quantile(values, 0.5), quantile(values, 0.25), quantile(values, 0.75)];
    });
    if (points.length) lines.push({ label, points, runs: members.length });
  }
  const sign = direction(name);
  lines.sort((a, b) => sign * (a.points.at(-1)[1] - b.points.at(-1)[1]));
  const shown = lines.slice(0, Number(find("#most").value)), allPoints = shown.flatMap((line) => line.points);
  const chart = find("#curves .chart");
  if (!allPoints.length) { chart.replaceChildren(make("p", { textContent: "No values to draw." }));
    find("#curves .legend").replaceChildren(); return; }
  const [W, H, L, B] = [960, 400, 70, 40];
  const x = axis(Math.min(...allPoints.map((p) => p[0])), Math.max(...allPoints.map((p) => p[0])), false);
  const y = axis(Math.min(...allPoints.map((p) => p[2])), Math.max(...allPoints.map((p) => p[3])), log);
  const px = (step) => L + x.scale(step) * (W - L - 10), py = (value) => H - B - y.scale(value) * (H - B - 10);
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label":
    `${name} over steps, ${shown.length} of ${lines.length} lines; last values: ` +
    shown.map((line) => `${line.label} ${format(line.points.at(-1)[1])}`).join("; ") });
  for (const tick of x.ticks) svg.append(
    draw("text", { x: px(tick), y: H - B + 16, "text-anchor": "middle" }, format(tick)));
  for (const tick of y.ticks) svg.append(
    draw("line", { class: "axis", x1: L, x2: W - 10, y1: py(tick), y2: py(tick) }),
    draw("text", { x: L - 6, y: py(tick) + 4, "text-anchor": "end" }, format(tick)));
  svg.append(draw("text", { x: W / 2, y: H - 4, "text-anchor": "middle" }, "step"),
    draw("text", { x: 14, y: H / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${H / 2})` }, name));
  const legend = shown.map((line, index) => {
    const colour = PALETTE[index % PALETTE.length];
    const dash = ["", "7 4", "2 3", "9 3 2 3"][Math.floor(index / PALETTE.length) % 4];
    const path = (points, part) => points.map((p) => `${px(p[0]).toFixed(1)},${py(p[part]).toFixed(1)}`);
    if (line.runs > 1) svg.append(draw("polygon", { fill: colour, opacity: 0.18,
      points: [...path(line.points, 2), ...path([...line.points].reverse(), 3)].join(" ") }));
    svg.append(draw("polyline", { fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash,
      points: path(line.points, 1).join(" ") }, draw("title", {}, line.label)));
    const key = draw("svg", { viewBox: "0 0 32 10", "aria-hidden": "true" },
      draw("line", { x1: 0, x2: 32, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash }));
    const seeds = line.runs > 1 ? ` (${line.runs} runs)` : "";
    return make("li", {}, key, ` ${line.label}${seeds}: ${format(line.points.at(-1)[1])}`);
  });
  if (lines.length > shown.length) legend.push(make("li", { textContent: `and ${lines.length - shown.length} more` }));
  chart.replaceChildren(svg);
  find("#curves .legend").replaceChildren(...legend);
}

// --- Heat map ---

// Fill the table of a section with one cell for each pair of values that two keys have.
function showMatrix(section, rowKey, columnKey, makeCell) {
  const down = distinct(rowKey, state.visible), across = distinct(columnKey, state.visible);
  const head = make("tr", {}, make("th", { scope: "col", textContent: `${rowKey} \\ ${columnKey}` }),
    ...across.map((value) => make("th", { scope: "col", textContent: format(value) || "none" })));
  const body = down.map((value) => make("tr", {}, make("th", { scope: "row", textContent: format(value) || "none" }),
    ...across.map((other) => makeCell(counted().filter((row) =>
      cell(row, rowKey) === value && cell(row, columnKey) === other)))));
  find(`${section} table`).replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}
function showHeatMap() {
  const [rowKey, columnKey, name] = ["#heat-rows", "#heat-columns", "#heat-value"].map((id) => find(id).value);
  if (!rowKey) return;
  const medianOf = (members) => {
    const values = members.filter((row) => cell(row, "status") !== "diverged").map((row) => cell(row, name))
      .filter((value) => value !== null);
    return values.length ? median(values) : null;
  };
  const medians = [];
  showMatrix("#heat", rowKey, columnKey, (members) => {
    const value = medianOf(members), bad = members.filter((row) => BAD.has(cell(row, "status")));
    if (value !== null) medians.push(value);
    const statuses = distinct("status", bad).join(", ");
    const note = bad.length ? `, ${bad.length} of ${members.length} ${statuses}` : "";
    const box = make("td", { className: bad.length ? "hatched" : "", title: `${members.length} runs${note}` },
      make("span", { textContent: members.length ? (format(value) || "no value") + note : "" }));
    box.dataset.value = value ?? "";
    return box;
  });
  const ordered = medians.sort((a, b) => a - b);
  for (const box of document.querySelectorAll("#heat td")) {
    if (box.dataset.value === "") continue;
    // Colours follow ranks, so that one very bad value does not make all others look alike.
    const place = ordered.indexOf(Number(box.dataset.value)) / Math.max(ordered.length - 1, 1);
    const good = direction(name) > 0 ? 1 - place : place;
    box.style.backgroundColor = `hsl(var(--good) / ${(0.05 + 0.6 * good).toFixed(2)})`;
  }
}

// --- Parallel coordinates ---

function showParallelCoordinates() {
  const names = [...data.keys, data.objective].filter((name) => distinct(name, state.visible).length > 1);
  const chart = find("#parallel .chart");
  if (names.length < 2) { chart.replaceChildren(make("p", { textContent: "Fewer than two columns differ." })); return; }
  const [W, H, M] = [Math.max(960, 105 * names.length), 360, 30];
  const scales = names.map((name) => {
    const values = distinct(name, state.visible).filter((value) => value !== null);
    const numeric = values.every((value) => typeof value === "number");
    const positive = numeric && values[0] > 0 && values.at(-1) / values[0] > 30;
    if (numeric && values.length > 8) {
      const { scale } = axis(values[0], values.at(-1), positive);
      return { place: scale, ticks: [values[0], values.at(-1)] };
    }
    return { place: (value) => values.length > 1 ? values.indexOf(value) / (values.length - 1) : 0.5, ticks: values };
  });
  const px = (index) => 60 + index * (W - 120) / (names.length - 1), py = (part) => H - M - part * (H - 2 * M);
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img",
    "aria-label": `${names.join(", ")} of ${state.visible.length} runs; the table of runs has the values` });
  const ranked = state.visible.filter((row) => names.every((name) => cell(row, name) !== null));
  const score = (row) => direction(data.objective) * cell(row, data.objective);
  const scores = ranked.map(score).sort((a, b) => a - b);
  for (const row of ranked) {
    const place = scores.indexOf(score(row)) / Math.max(scores.length - 1, 1);
    svg.append(draw("polyline", { fill: "none", stroke: `hsl(${210 - 190 * place} 75% 48%)`,
      opacity: Math.max(0.25, Math.min(0.9, 20 / ranked.length)), "stroke-width": 1.5,
      "stroke-dasharray": BAD.has(cell(row, "status")) ? "4 3" : "",
      points: names.map((name, index) => `${px(index)},${py(scales[index].place(cell(row, name))).toFixed(1)}`)
        .join(" ")
    }, draw("title", {}, `${cell(row, "run")}: ${format(cell(row, data.objective))}`)));
  }
  names.forEach((name, index) => {
    svg.append(draw("line", { class: "axis", x1: px(index), x2: px(index), y1: M, y2: H - M }),
      draw("text", { x: px(index), y: names.length > 6 && index % 2 ? 24 : 10, "text-anchor": "middle" }, name));
    for (const tick of scales[index].ticks) svg.append(
      draw("text", { x: px(index) + 5, y: py(scales[index].place(tick)) + 4 }, format(tick)));
  });
  chart.replaceChildren(svg);
}

// --- Samples ---

function picture(row, step) {
  const source = data.samples.runs[row][step];
  return source ? make("img", { src: source, alt: `Samples of ${cell(row, "run")} at step ${step}` }) : "no picture";
}
function showSamples() {
  const step = data.samples.steps[Number(find("#step").value)];
  find("#step-text").textContent = step ?? "none";
  const [rowKey, columnKey] = [find("#sample-rows").value, find("#sample-columns").value];
  if (step === undefined || !rowKey) return;
  const seed = find("#sample-seed").value;
  showMatrix("#samples", rowKey, columnKey, (members) => {
    // Cells show one seed, and so the same latents, unless a side of the table is the seed.
    const anySeed = !data.keys.includes("seed") || rowKey === "seed" || columnKey === "seed";
    const shown = members.filter((row) => anySeed || format(cell(row, "seed")) === seed);
    return make("td", {}, shown.length ? picture(shown[0], step) : "");
  });
}

// --- Failures and cost ---

function showFailuresAndCost() {
  const failed = state.visible.filter((row) => BAD.has(cell(row, "status")) || cell(row, "error") !== null);
  find("#failures").replaceChildren(failed.length ? make("ul", {}, ...failed.map((row) => make("li", {
    textContent: `${cell(row, "run")}: ${cell(row, "status")} at step ${format(cell(row, "steps"))}` +
      (cell(row, "error") === null ? "" : `, ${cell(row, "error")}`) })))
    : make("p", { textContent: "No run failed, diverged or was pruned." }));
  const total = (name, rows) => rows.reduce((sum, row) => sum + (cell(row, name) ?? 0), 0);
  const kinds = distinct("status", state.visible);
  const lines = [...kinds.map((kind) => [kind, state.visible.filter((row) => cell(row, "status") === kind)]),
    ["all", state.visible]];
  find("#cost table").replaceChildren(
    make("thead", {}, make("tr", {}, ...["status", "runs", "seconds", "images"].map((name) =>
      make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...lines.map(([kind, rows]) => make("tr", {},
      make("th", { scope: "row", textContent: kind }),
      ...[rows.length, Math.round(total("seconds", rows)), total("images", rows)].map((value) =>
        make("td", { className: "number", textContent: value.toLocaleString("en") }))))));
}

// --- One run ---

function bestRow() {
  const sign = direction(data.objective);
  return data.rows.map((_, row) => row)
    .filter((row) => cell(row, "status") === "completed" && cell(row, data.objective) !== null)
    .sort((a, b) => sign * (cell(a, data.objective) - cell(b, data.objective)))[0];
}
function openRun(row) {
  const best = bestRow(), mine = data.configs[row], theirs = best === undefined ? {} : data.configs[best];
  const value = (config, key) => key in config ? config[key] ?? "absent" : data.default[key] ?? "absent";
  const keys = [...new Set([...Object.keys(mine), ...Object.keys(theirs)])]
    .filter((key) => key in mine || value(mine, key) !== value(theirs, key)).sort();
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...["key", "this run", "best run", "default"]
    .map((name) => make("th", { scope: "col", textContent: name })))), make("tbody", {}, ...keys.map((key) =>
    make("tr", {}, make("th", { scope: "row", textContent: key }), ...[value(mine, key), value(theirs, key),
      data.default[key] ?? "absent"].map((text) => make("td", { textContent: text }))))));
  const facts = make("table", {}, make("tbody", {}, ...data.columns.filter((column) => cell(row, column.name) !== null)
    .map((column) => make("tr", {}, make("th", { scope: "row", textContent: column.name }),
      make("td", { textContent: format(cell(row, column.name)) })))));
  const pictures = data.samples.steps.filter((step) => data.samples.runs[row][step])
    .map((step) => picture(row, step));
  find("#run-title").textContent = cell(row, "run");
  find("#run > div").replaceChildren(make("p", { textContent: data.paths[row] }),
    make("h3", { textContent: "Configuration that differs from the default or from the best run" }),
    keys.length ? table : make("p", { textContent: "There is no difference." }), make("h3", { textContent: "Facts" }), facts,
    make("h3", { textContent: "Samples" }), ...pictures);
  find("#run").showModal();
}

function showVisible() {
  const text = find("#filter").value;
  state.visible = state.order.filter((row) => matches(row, text));
  showHeader(); showRows(); showCurves(); showHeatMap(); showParallelCoordinates(); showSamples();
  showFailuresAndCost();
}
function start() {
  document.title = data.title;
  find("#title").textContent = data.title;
  find("#summary").textContent = `${data.rows.length} runs. ${data.objective}: ` +
    (direction(data.objective) > 0 ? "lower is better." : "higher is better.");
  find("#notes").replaceChildren(...data.notes.map((note) => make("li", { textContent: note })));
  // At first the table has only the columns that fit on a page.
  const first = new Set(["run", ...data.keys, "status", ...data.metrics, "steps", "seconds"]);
  for (const column of data.columns) if (!first.has(column.name)) state.hidden.add(column.name);
  const [a, b] = [data.keys[0], data.keys[1] ?? data.keys[0]];
  fillSelect("#curve-value", data.curves.names);
  fillSelect("#heat-rows", data.keys, a); fillSelect("#heat-columns", data.keys, b);
  fillSelect("#heat-value", data.metrics);
  fillSelect("#sample-rows", data.keys, a); fillSelect("#sample-columns", data.keys, b);
  if (data.keys.includes("seed")) fillSelect("#sample-seed", distinct("seed", state.order).map(format));
  else find("#sample-seed-label").hidden = true;
  if (data.samples.real) find("#real").append(make("img", { src: data.samples.real, alt: "Real images" }));
  else find("#real").hidden = true;
  const step = find("#step");
  step.max = Math.max(data.samples.steps.length - 1, 0);
  step.value = step.max;
  for (const [id, view] of Object.entries({ "curve-value": showCurves, smoothing: showCurves, bands: showCurves,
    log: showCurves, most: showCurves, "heat-rows": showHeatMap, "heat-columns": showHeatMap,
    "heat-value": showHeatMap, "sample-rows": showSamples, "sample-columns": showSamples,
    "sample-seed": showSamples, step: showSamples, filter: showVisible })) {
    find(`#${id}`).addEventListener("input", view);
  }
  showColumnChoices(); showRanking(); showImportance(); showVisible();
}
start();
