"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
// The number of each column in a row of the table.
const columnIndex = Object.fromEntries(data.columns.map((column, index) => [column.name, index]));
// Statuses of runs that did not complete.
const BAD = new Set(["diverged", "pruned", "failed"]);
const ENDED_WELL = new Set(["completed", "stopped"]);
// Rows are numbers: `order` holds all of them as they are sorted, `visible` those that pass the filter.
// `hidden` holds names of columns, `off` ids of lines that the legend has switched off, `zoom` the ends of the axes.
const state = { order: data.rows.map((_, row) => row), visible: [], sort: null, descending: false, hidden: new Set(),
  passes: () => true, off: new Set(), zoom: null };

// Create an HTML element. Texts that come from runs go into text nodes and never into markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
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
// Texts of a column's values. Two that look alike when they are rounded are written in full.
const textsByColumn = new Map();
function textOf(name, value) {
  if (!textsByColumn.has(name)) {
    const texts = new Map(), values = [...new Set(data.rows.map((_, row) => cell(row, name)))];
    const short = values.map((one) => format(one) || "none");
    values.forEach((one, index) => {
      const alone = short.filter((text) => text === short[index]).length === 1;
      texts.set(one, alone ? short[index] : one === null ? "no value" : String(one) || '""');
    });
    textsByColumn.set(name, texts);
  }
  return textsByColumn.get(name).get(value) ?? format(value);
}
const distinct = (name, rows) => [...new Set(rows.map((row) => cell(row, name)))].sort(compareValues);
function fillSelect(selector, names, selected) {
  const select = find(selector);
  select.replaceChildren(...names.map((name) => make("option", { textContent: name, value: name })));
  if (selected !== undefined) select.value = selected;
}

// --- Runs ---

// Read the filter. If it cannot be read, say so and keep the last one that could.
function applyFilter() {
  const field = find("#filter"), message = find("#filter-message");
  message.textContent = "";
  try {
    state.passes = readFilter(field.value, data.columns, cell, (row) =>
      data.rows[row].map((value) => String(value ?? "").toLowerCase()).join("\n"));
  } catch (error) {
    message.textContent = `The filter cannot be read: ${error.message}. The runs of the last filter are shown.`;
  }
  field.setAttribute("aria-invalid", String(message.textContent !== ""));
  showVisible();
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
  find("#count").textContent = `${state.visible.length} of ${data.rows.length} runs` +
    (state.visible.length ? "" : ": no run passes the filter");
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
// Return { label, rows } for rows that have the same keys, or the same keys except for the seed. A label
// names only keys in which these rows differ, and a text says what it is by itself.
function groupRows(overSeeds, rows) {
  const groups = new Map();
  const keys = data.keys.filter((name) => !(overSeeds && name === "seed") && distinct(name, rows).length > 1);
  const labelOf = (row) => keys.length ? keys.map((name) => {
    const value = cell(row, name);
    return typeof value === "string" && value !== "none" && value !== "" ? value : `${name}=${textOf(name, value)}`;
  }).join(", ") : overSeeds && data.keys.includes("seed") ? "all" : format(cell(row, "run"));
  for (const row of rows) {
    const values = JSON.stringify(keys.length ? keys.map((name) => cell(row, name)) : labelOf(row));
    // A line that is switched off stays so when a filter changes the labels.
    const id = JSON.stringify(data.keys.filter((name) => !(overSeeds && name === "seed")).map((name) => cell(row, name)));
    if (!groups.has(values)) groups.set(values, { label: labelOf(row), rows: [], id: keys.length ? id : `${id} ${labelOf(row)}` });
    groups.get(values).rows.push(row);
  }
  return [...groups.values()];
}
// Return the median and the quartiles of runs at each step.
function curvePoints(rows, name) {
  const log = find("#log").checked, weight = Number(find("#smoothing").value), byStep = new Map();
  for (const row of rows) {
    const [steps, values] = data.curves.runs[row][name] ?? [[], []];
    smooth(values, weight).forEach((value, index) => {
      if (log && value <= 0) return;
      if (!byStep.has(steps[index])) byStep.set(steps[index], []);
      byStep.get(steps[index]).push(value);
    });
  }
  return [...byStep].sort((a, b) => a[0] - b[0]).map(([step, values]) => {
    values.sort((a, b) => a - b);
    return { step, runs: values.length, value: quantile(values, 0.5), low: quantile(values, 0.25), high: quantile(values, 0.75) };
  });
}
// Return the last point of all runs of a line. Later ones are of those runs alone that did not end early.
function lastOfAll(points) {
  const most = Math.max(...points.map(({ runs }) => runs));
  return points.findLast(({ runs }) => runs === most);
}
const valueAtEnd = (points) => format(lastOfAll(points).value) + (lastOfAll(points) === points.at(-1) ? "" : ` at step ${lastOfAll(points).step}`);
// What is drawn in one chart: every value alone, and what belongs together, with short names for the legend.
const PAIRS = [["losses of G and D", { "loss/generator": "G", "loss/discriminator": "D" }],
  ["D(x) and D(G(z))", { "prob/real": "D(x)", "prob/fake": "D(G(z))" }]];
const isMetric = (name) => name in data.directions, alone = (name) => [name, { [name]: "" }];
const CHARTS = new Map([...data.curves.names.filter(isMetric).map(alone),
  ...PAIRS.filter(([, names]) => Object.keys(names).every((name) => data.curves.names.includes(name))),
  ...data.curves.names.filter((name) => !isMetric(name)).map(alone)]);
function showCurves() {
  const title = find("#curve-value").value, names = Object.entries(CHARTS.get(title) ?? {}), chart = find("#curves .chart");
  const drawable = counted().filter((row) => names.some(([name]) => data.curves.runs[row][name]));
  const groups = groupRows(find("#bands").checked, drawable).map(({ label, rows, id }) => ({ label, id, runs: rows.length,
    curves: names.map(([name, short], index) => ({ short, index, points: curvePoints(rows, name) })).filter(({ points }) => points.length),
  })).filter(({ curves }) => curves.length);
  // Lines of a metric begin with the best one, others follow the table.
  const last = (group) => lastOfAll(group.curves[0].points).value;
  if (isMetric(title)) groups.sort((a, b) => direction(title) * (last(a) - last(b)));
  const shown = groups.slice(0, Number(find("#most").value));
  shown.forEach((group, index) => { group.look = lineStyle(index); });
  const lines = shown.filter(({ id }) => !state.off.has(id)).flatMap((group) => group.curves.map((curve) => ({
    points: curve.points, name: names.length > 1 ? `${group.label}: ${curve.short}` : group.label,
    look: names.length > 1 ? { ...group.look, dash: DASHES[curve.index] } : group.look })));
  showLegend(shown, groups.length, names);
  const steps = [...new Set(lines.flatMap(({ points }) => points.map(({ step }) => step)))].sort((a, b) => a - b);
  const byStep = new Map(steps.map((step) => [step, []]));
  for (const { name, look, points } of lines) {
    const most = Math.max(...points.map(({ runs }) => runs));
    for (const { step, value, low, high, runs } of points) byStep.get(step).push({ label: name, look,
      text: format(value) + (low < high ? ` (${format(low)} to ${format(high)})` : "") + (runs < most ? `, ${runs} of ${most} runs` : "") });
  }
  showValues(lines, steps, byStep);
  if (!lines.length) { showNoChart(chart, groups.length ? "All lines are switched off." : "There is nothing to draw."); return; }
  const MOST = 12;
  const hints = steps.map((step) => ({ step, hint: { title: `step ${step}`, rows: byStep.get(step).length > MOST
    ? [...byStep.get(step).slice(0, MOST), { label: `and ${byStep.get(step).length - MOST} more`, text: "" }] : byStep.get(step) } }));
  const ends = lines.slice(0, MOST).map((line) => `${line.name} ${valueAtEnd(line.points)}`).join("; ");
  showChart(chart, curvesSpec({ lines, steps: hints, title, log: find("#log").checked, zoom: state.zoom,
    height: chart.clientWidth < 600 ? 280 : 400,
    description: `${title} over steps, ${shown.length} of ${groups.length} lines. Last values: ${ends}` }),
    (view) => view.addSignalListener("zoom", (_, zoom) => {
      state.zoom = zoom.step && zoom.value ? { x: [...zoom.step], y: [...zoom.value] } : null;
    }));
}
function showLegend(shown, count, names) {
  const alike = shown.every(({ runs }) => runs === shown[0].runs);
  const items = shown.map(({ label, id, runs, curves, look }) => {
    const values = curves.map(({ short, points }) => `${short} ${valueAtEnd(points)}`.trim()).join(", ");
    const text = alike || runs === 1 ? label : `${label} (${runs} runs)`;
    const button = make("button", { type: "button", title: text }, lineKey(look), make("span", { textContent: text }), ` ${values}`);
    button.setAttribute("aria-pressed", String(!state.off.has(id)));
    button.addEventListener("click", () => {
      if (!state.off.delete(id)) state.off.add(id);
      showCurves();
      find(`#curves .legend li:nth-child(${items.indexOf(item) + 1}) button`).focus();
    });
    const item = make("li", {}, button);
    return item;
  });
  find("#curves .legend").replaceChildren(...items);
  find("#curves-note").textContent = (names.length > 1 ? `Solid: ${names[0][0]}. Dashed: ${names[1][0]}. ` : "") +
    (alike && shown[0]?.runs > 1 ? `Each line is a median over ${shown[0].runs} runs, with their quartiles. ` : "") +
    (shown.some(({ curves }) => curves.some(({ points }) => lastOfAll(points) !== points.at(-1)))
      ? "Where runs ended early, the rest of a line is of the others, and its value is that of the last step of all. " : "") +
    (count > shown.length ? `${count - shown.length} more lines are not drawn. ` : "") +
    "A click on a line of the legend hides it or shows it again.";
}
// Write the lines of the chart as a table, at about ten steps.
function showValues(lines, steps, byStep) {
  const chosen = marked(steps);
  find("#values table").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "step" }), ...lines.map(({ name }) =>
      make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...chosen.map((step) => {
      const texts = new Map(byStep.get(step).map(({ label, text }) => [label, text]));
      return make("tr", {}, make("th", { scope: "row", textContent: step }), ...lines.map(({ name }) =>
        make("td", { className: "number", textContent: texts.get(name) ?? "" })));
    })));
}
// Change the ends of the axis of steps, or show all steps again.
function zoomSteps(change) {
  const view = find("#curves .chart").chart?.view;
  if (!view) return;
  const [low, high] = view.scale("x").domain();
  state.zoom = change ? { x: change(low, high), y: [...view.scale("y").domain()] } : null;
  showCurves();
}
const ZOOMS = {
  "zoom-in": (low, high) => [low + (high - low) / 4, high - (high - low) / 4],
  "zoom-out": (low, high) => [low - (high - low) / 2, high + (high - low) / 2],
  earlier: (low, high) => [low - (high - low) / 4, high - (high - low) / 4],
  later: (low, high) => [low + (high - low) / 4, high + (high - low) / 4],
  "zoom-reset": null,
};

// --- Heat map ---

// More cells than a reader can look at, and than a browser draws in a moment.
const MOST_CELLS = 1000;
const tooManyCells = (rows, columns) =>
  `${rows.length} times ${columns.length} values are too many to show. Choose other keys, or filter the runs.`;

function showHeatMap() {
  const [rowKey, columnKey, name] = ["#heat-rows", "#heat-columns", "#heat-value"].map((id) => find(id).value);
  const chart = find("#heat .chart");
  if (!rowKey || !state.visible.length) { showNoChart(chart, rowKey ? "There is nothing to draw." : "Runs differ in no key."); return; }
  const rows = distinct(rowKey, state.visible), columns = distinct(columnKey, state.visible);
  if (rows.length * columns.length > MOST_CELLS) { showNoChart(chart, tooManyCells(rows, columns)); return; }
  const cells = rows.flatMap((row) => columns.map((column) => {
    const members = counted().filter((run) => cell(run, rowKey) === row && cell(run, columnKey) === column);
    const values = members.filter((run) => ENDED_WELL.has(cell(run, "status"))).map((run) => cell(run, name))
      .filter((value) => value !== null);
    const bad = members.filter((run) => !ENDED_WELL.has(cell(run, "status")));
    const text = !members.length ? [] : [values.length ? format(median(values)) : "no value"];
    if (bad.length) text.push(`${bad.length} of ${members.length} ${distinct("status", bad).join(", ")}`);
    const [down, across] = [textOf(rowKey, row), textOf(columnKey, column)];
    const place = rowKey === columnKey ? `${rowKey}=${down}` : `${rowKey}=${down}, ${columnKey}=${across}`;
    return { row: down, column: across, value: values.length ? median(values) : null, bad: bad.length > 0, text,
      label: `${place}: ${text.join(", ") || "no run"}`, hint: { title: place, rows: [{ label: "runs", text: members.length },
        { label: `median ${name}`, text: values.length ? format(median(values)) : "" },
        ...bad.map((run) => ({ label: format(cell(run, "run")), text: cell(run, "status") }))] } };
  }));
  // Strengths follow ranks, so that one very bad value does not make all others look alike.
  const ordered = cells.map(({ value }) => value).filter((value) => value !== null).sort((a, b) => a - b);
  for (const box of cells) {
    const place = ordered.indexOf(box.value) / Math.max(ordered.length - 1, 1);
    box.strength = box.value === null ? 0 : 0.05 + 0.6 * (direction(name) > 0 ? 1 - place : place);
  }
  showChart(chart, heatMapSpec({ cells, rows: rows.map((value) => textOf(rowKey, value)),
    columns: columns.map((value) => textOf(columnKey, value)), rowTitle: rowKey, columnTitle: columnKey,
    description: `Median ${name} by ${rowKey} and ${columnKey}. ${cells.map((box) => box.label).join("; ")}` }));
}

// --- Parallel coordinates ---

function showParallelCoordinates() {
  const names = [...data.keys, data.objective].filter((name) => distinct(name, state.visible).length > 1);
  const chart = find("#parallel .chart");
  if (names.length < 2) { showNoChart(chart, "Fewer than two columns differ."); return; }
  const scales = names.map((name) => {
    const all = distinct(name, state.visible), values = all.filter((value) => value !== null);
    const numeric = values.every((value) => typeof value === "number");
    if (numeric && values.length > (name === data.objective ? 1 : 8)) {
      const to = values[0] > 0 && values.at(-1) / values[0] > 30 ? Math.log : (value) => value;
      const [low, high] = [to(values[0]), to(values.at(-1))];
      // A key without a value has a place of its own at the bottom.
      const bottom = name !== data.objective && all.length > values.length ? 0.12 : 0;
      return { place: (value) => value === null ? 0 : bottom + (1 - bottom) * (to(value) - low) / (high - low),
        ticks: [...(bottom ? [null] : []), values[0], values.at(-1)] };
    }
    const places = name === data.objective ? values : all;
    return { place: (value) => places.length > 1 ? places.indexOf(value) / (places.length - 1) : 0.5, ticks: places };
  });
  const ranked = state.visible.filter((row) => cell(row, data.objective) !== null);
  const left = state.visible.length - ranked.length;
  find("#parallel-note").textContent = left ? ` ${left} runs without a value of ${data.objective} are not drawn.` : "";
  if (!ranked.length) { showNoChart(chart, `No run has a value of ${data.objective}.`); return; }
  const score = (row) => direction(data.objective) * cell(row, data.objective);
  const scores = ranked.map(score).sort((a, b) => a - b);
  // The best lines are drawn last, over the others.
  const lines = ranked.sort((a, b) => score(b) - score(a)).flatMap((row) => {
    const common = { row, rank: scores.indexOf(score(row)) / Math.max(scores.length - 1, 1),
      dash: BAD.has(cell(row, "status")) ? [4, 3] : [1, 0],
      label: `${cell(row, "run")}: ${data.objective} ${format(cell(row, data.objective))}`,
      hint: { title: format(cell(row, "run")), rows: [...names, "status"].map((name) => ({ label: name, text: format(cell(row, name)) })) } };
    return names.map((name, index) => ({ ...common, index, column: name, place: scales[index].place(cell(row, name)) }));
  });
  const ticks = names.flatMap((name, index) => scales[index].ticks.map((value) =>
    ({ column: name, place: scales[index].place(value), text: textOf(name, value) })));
  showChart(chart, parallelSpec({ lines, ticks, columns: names, width: Math.max(chart.parentElement.clientWidth - 20, 110 * names.length),
    description: `${names.join(", ")} of ${ranked.length} runs; the table of runs has the values` }),
    (view) => view.addEventListener("click", (_, item) => { if (item?.datum?.row !== undefined) openRun(item.datum.row); }));
}

// --- Samples ---

// A run that has no picture at a step shows the one before it, and says of which step that is.
const drawnAt = (row, step) => data.samples.drawn[row][step];
// Return the steps at which a run has pictures, each of them once.
const stepsOf = (row) => data.samples.steps.filter((step, index, steps) => data.samples.runs[row][step] &&
  !steps.slice(0, index).some((earlier) => data.samples.runs[row][earlier] && drawnAt(row, earlier) === drawnAt(row, step)));
// Return a picture that is shown large when it is clicked.
function picture(row, step) {
  const source = data.samples.runs[row][step];
  if (!source) return "no picture";
  const image = make("img", { src: source, alt: `Samples of ${cell(row, "run")} at step ${drawnAt(row, step)}` });
  const button = make("button", { type: "button", title: "Enlarge" }, image);
  button.addEventListener("click", () => enlarge(row, step));
  return button;
}
// Show a picture of a run large. The steps before and after are a button or an arrow key away.
function enlarge(row, step) {
  const dialog = find("#picture"), steps = stepsOf(row);
  const show = (at) => {
    const there = steps[at], text = `Samples of ${cell(row, "run")} at step ${drawnAt(row, there)}`;
    find("#picture img").replaceWith(make("img", { src: data.samples.runs[row][there], alt: text }));
    find("#picture-title").textContent = text;
    const turn = (by) => { if (steps[at + by] !== undefined) show(at + by); };
    find("#before").disabled = at === 0;
    find("#after").disabled = at === steps.length - 1;
    // A button that is disabled loses the focus, and with it the arrow keys.
    if (!dialog.contains(document.activeElement) || document.activeElement.disabled) dialog.focus();
    find("#before").onclick = () => turn(-1);
    find("#after").onclick = () => turn(1);
    dialog.onkeydown = ({ key }) => turn({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0);
  };
  dialog.tabIndex = -1;
  show(steps.findIndex((other) => drawnAt(row, other) === drawnAt(row, step)));
  dialog.showModal();
}
function showSamples() {
  const step = data.samples.steps[Number(find("#step").value)];
  find("#step-text").textContent = step ?? "none";
  const [rowKey, columnKey] = [find("#sample-rows").value, find("#sample-columns").value];
  if (step === undefined) return;
  if (!rowKey) {
    // Runs differ in no key, so each has a column of its own.
    const rows = state.visible.slice(0, MOST_CELLS);
    find("#samples table").replaceChildren(
      make("thead", {}, make("tr", {}, ...rows.map((row) => make("th", { scope: "col", textContent: cell(row, "run") })))),
      make("tbody", {}, make("tr", {}, ...rows.map((row) => make("td", {}, picture(row, step))))));
    return;
  }
  const down = distinct(rowKey, state.visible), across = distinct(columnKey, state.visible);
  if (down.length * across.length > MOST_CELLS) {
    find("#samples table").replaceChildren(make("caption", { textContent: tooManyCells(down, across) }));
    return;
  }
  // Cells show one seed, and so the same latents, unless a side of the table is the seed.
  const anySeed = !data.keys.includes("seed") || rowKey === "seed" || columnKey === "seed";
  const seed = find("#sample-seed").value;
  const candidates = counted().filter((row) => anySeed || format(cell(row, "seed")) === seed);
  const pictureOf = (value, other) => {
    const row = candidates.find((run) => cell(run, rowKey) === value && cell(run, columnKey) === other);
    return row === undefined ? "" : picture(row, step);
  };
  const head = (scope, name, value) => make("th", { scope, textContent: textOf(name, value) });
  find("#samples table").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: `${rowKey} \\ ${columnKey}` }),
      ...across.map((value) => head("col", columnKey, value)))),
    make("tbody", {}, ...down.map((value) => make("tr", {}, head("row", rowKey, value),
      ...across.map((other) => make("td", {}, pictureOf(value, other)))))));
}

// --- Failures and cost ---

function showFailuresAndCost() {
  const failed = state.visible.filter((row) => BAD.has(cell(row, "status")) || cell(row, "error") !== null || data.remarks[row] !== null);
  find("#failures").replaceChildren(failed.length ? make("ul", {}, ...failed.map((row) => make("li", {
    textContent: `${cell(row, "run")}: ${cell(row, "status")} at step ${format(cell(row, "steps"))}` +
      [cell(row, "error"), data.remarks[row]].filter((text) => text !== null).map((text) => `, ${text}`).join("") })))
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
    .filter((row) => ENDED_WELL.has(cell(row, "status")) && cell(row, data.objective) !== null)
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
  const pictures = stepsOf(row).map((step) => picture(row, step));
  find("#run-title").textContent = cell(row, "run");
  find("#run > div").replaceChildren(make("p", { textContent: data.paths[row] }),
    make("h3", { textContent: "Configuration that differs from the default or from the best run" }),
    keys.length ? table : make("p", { textContent: "There is no difference." }), make("h3", { textContent: "Facts" }), facts,
    make("h3", { textContent: "Samples" }), ...pictures);
  find("#run").showModal();
}

function showVisible() {
  state.visible = state.order.filter((row) => state.passes(row));
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
  const first = new Set(["run", ...data.keys, "status", "verdict", ...data.metrics, "steps", "seconds"]);
  for (const column of data.columns) if (!first.has(column.name)) state.hidden.add(column.name);
  const [a, b] = [data.keys[0], data.keys[1] ?? data.keys[0]];
  fillSelect("#curve-value", [...CHARTS.keys()]);
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
  const showOtherCurves = () => { state.zoom = null; showCurves(); };
  for (const [id, view] of Object.entries({ "curve-value": showOtherCurves, smoothing: showCurves, bands: showCurves,
    log: showOtherCurves, most: showCurves, "heat-rows": showHeatMap, "heat-columns": showHeatMap,
    "heat-value": showHeatMap, "sample-rows": showSamples, "sample-columns": showSamples,
    "sample-seed": showSamples, step: showSamples, filter: applyFilter })) {
    find(`#${id}`).addEventListener("input", view);
  }
  for (const [id, change] of Object.entries(ZOOMS)) find(`#${id}`).addEventListener("click", () => zoomSteps(change));
  showColumnChoices(); showRanking(); showImportance(); showVisible();
}
start();
