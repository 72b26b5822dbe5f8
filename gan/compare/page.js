"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = Object.fromEntries(data.columns.map((column, index) => [column.name, index]));
const PALETTE = ["#0b6fd0", "#d1540a", "#23883a", "#b3308e", "#8a6d00", "#0d8a8a", "#7a4fd0", "#b02a37"];
const BAD = new Set(["diverged", "pruned", "failed"]);
const state = { order: data.rows.map((_, row) => row), visible: [], sort: null, down: false, hidden: new Set() };

// Everything the runs brought along goes into text nodes and never into markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const find = (selector) => document.querySelector(selector);
const cell = (row, name) => data.rows[row][at[name]];
const direction = (name) => data.directions[name] ?? 1;
function show(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}
function compareValues(a, b) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1;
}
function quantile(sorted, part) {
  const place = part * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}
const median = (values) => quantile([...values].sort((a, b) => a - b), 0.5);
const distinct = (name, rows) => [...new Set(rows.map((row) => cell(row, name)))].sort(compareValues);
function choose(selector, names, chosen) {
  const select = find(selector);
  select.replaceChildren(...names.map((name) => make("option", { textContent: name, value: name })));
  if (chosen !== undefined) select.value = chosen;
  return select;
}

// Runs
function matches(row, text) {
  const words = text.trim().split(/\s+/).filter(Boolean);
  return words.every((word) => {
    const condition = word.match(/^(.+?)(<=|>=|!=|==|=|<|>)(.+)$/);
    if (condition && condition[1] in at) {
      const [, name, sign, wanted] = condition, value = cell(row, name);
      if (value === null) return false;
      const same = typeof value === "number" ? value === Number(wanted) : String(value) === wanted;
      switch (sign) {
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
function header() {
  const cells = data.columns.filter((column) => !state.hidden.has(column.name)).map((column) => {
    const button = make("button", { type: "button", textContent: column.name });
    const sorted = state.sort === column.name;
    if (sorted) button.append(state.down ? " ▼" : " ▲");
    button.addEventListener("click", () => {
      state.down = sorted ? !state.down : direction(column.name) < 0;
      state.sort = column.name;
      const sign = state.down ? -1 : 1;
      state.order.sort((a, b) => {
        const [x, y] = [cell(a, column.name), cell(b, column.name)];
        // What has no value stays below either way.
        return x === null || y === null ? compareValues(x, y) : sign * compareValues(x, y);
      });
      update();
      [...document.querySelectorAll("#table thead button")]
        .find((other) => other.textContent.replace(/ [▲▼]$/, "") === column.name)?.focus();
    });
    const head = make("th", { scope: "col", className: column.numeric ? "number" : "" }, button);
    head.setAttribute("aria-sort", !sorted ? "none" : state.down ? "descending" : "ascending");
    return head;
  });
  find("#table thead").replaceChildren(make("tr", {}, ...cells));
}
function rows() {
  const shown = data.columns.filter((column) => !state.hidden.has(column.name));
  find("#table tbody").replaceChildren(...state.visible.map((row) => make("tr", {}, ...shown.map((column) => {
    const text = show(cell(row, column.name));
    if (column.name !== "run") return make("td", { className: column.numeric ? "number" : "", textContent: text });
    const button = make("button", { type: "button", textContent: text });
    button.addEventListener("click", () => open(row));
    return make("td", {}, button);
  }))));
  find("#count").textContent = `${state.visible.length} of ${data.rows.length} runs`;
}
function columnChoices() {
  find("#columns").replaceChildren(...data.columns.map((column) => {
    const box = make("input", { type: "checkbox", checked: !state.hidden.has(column.name) });
    box.addEventListener("change", () => {
      if (box.checked) state.hidden.delete(column.name); else state.hidden.add(column.name);
      header(); rows();
    });
    return make("label", {}, box, ` ${column.name}`);
  }));
}

// Ranking
function ranking() {
  if (!data.ranking) { find("#ranking").hidden = true; find('nav a[href="#ranking"]').hidden = true; return; }
  const { columns, rows: groups } = data.ranking;
  find("#ranking table").replaceChildren(
    make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...groups.map((group) => make("tr", {}, ...group.map((value) => make("td", {
      className: typeof value === "number" ? "number" : "", textContent: show(value) }))))));
}

// Importance
function importance() {
  const found = data.importance;
  find("#importance").hidden = find('nav a[href="#importance"]').hidden = !found;
  if (!found) return;
  const most = Math.max(...found.keys.map(([, mean]) => mean), 1e-9);
  find("#importance table").replaceChildren(
    make("thead", {}, make("tr", {}, ...["key", "", "importance", "deviation"].map((name) =>
      make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...found.keys.map(([key, mean, deviation]) => make("tr", {},
      make("th", { scope: "row", textContent: key }),
      make("td", {}, make("meter", { max: most, value: Math.max(mean, 0), "aria-label": `importance of ${key}` })),
      ...[mean, deviation].map((value) => make("td", { className: "number", textContent: value.toFixed(3) }))))));
  find("#importance-score").textContent = `With all keys as they are R² is ${found.score.toFixed(2)}` +
    (found.score < 0.2 ? ": too low to trust what this says." : ".");
}

// Curves
function axis(low, high, log) {
  const to = log ? Math.log10 : (value) => value;
  let [from, until] = [to(low), to(high)];
  if (!(until > from)) { from -= 0.5; until += 0.5; }
  const ticks = [];
  const rough = (until - from) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const pace = [1, 2, 5, 10].map((times) => times * power).find((candidate) => candidate >= rough);
  for (let tick = Math.ceil(from / pace) * pace; tick <= until + pace / 1e6; tick += pace) {
    ticks.push(log ? 10 ** tick : tick);
  }
  return { scale: (value) => (to(value) - from) / (until - from), ticks };
}
function smoothed(values, weight) {
  let mean = 0, norm = 0;
  return values.map((value) => {
    mean = weight * mean + (1 - weight) * value; norm = weight * norm + 1 - weight;
    return mean / norm;
  });
}
function groups(bands) {
  const found = new Map(), keys = data.keys.filter((name) => !(bands && name === "seed"));
  for (const row of state.visible) {
    const label = keys.length ? keys.map((name) => `${name}=${show(cell(row, name))}`).join(", ")
      : bands ? "all" : show(cell(row, "run"));
    if (!found.has(label)) found.set(label, []);
    found.get(label).push(row);
  }
  return [...found];
}
function curves() {
  const name = find("#curve-value").value, log = find("#log").checked, weight = Number(find("#smoothing").value);
  const lines = [];
  for (const [label, members] of groups(find("#bands").checked)) {
    const byStep = new Map();
    for (const row of members) {
      const line = data.curves.runs[row][name];
      if (!line) continue;
      smoothed(line[1], weight).forEach((value, index) => {
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
  const kept = lines.slice(0, Number(find("#most").value)), every = kept.flatMap((line) => line.points);
  const chart = find("#curves .chart");
  if (!every.length) { chart.replaceChildren(make("p", { textContent: "No values to draw." }));
    find("#curves .legend").replaceChildren(); return; }
  const [W, H, L, B] = [960, 400, 70, 40];
  const x = axis(Math.min(...every.map((p) => p[0])), Math.max(...every.map((p) => p[0])), false);
  const y = axis(Math.min(...every.map((p) => p[2])), Math.max(...every.map((p) => p[3])), log);
  const px = (step) => L + x.scale(step) * (W - L - 10), py = (value) => H - B - y.scale(value) * (H - B - 10);
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label":
    `${name} over steps, ${kept.length} of ${lines.length} lines; last values: ` +
    kept.map((line) => `${line.label} ${show(line.points.at(-1)[1])}`).join("; ") });
  for (const tick of x.ticks) svg.append(
    draw("text", { x: px(tick), y: H - B + 16, "text-anchor": "middle" }, show(tick)));
  for (const tick of y.ticks) svg.append(
    draw("line", { class: "axis", x1: L, x2: W - 10, y1: py(tick), y2: py(tick) }),
    draw("text", { x: L - 6, y: py(tick) + 4, "text-anchor": "end" }, show(tick)));
  svg.append(draw("text", { x: W / 2, y: H - 4, "text-anchor": "middle" }, "step"),
    draw("text", { x: 14, y: H / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${H / 2})` }, name));
  const legend = kept.map((line, index) => {
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
    return make("li", {}, key, ` ${line.label}${seeds}: ${show(line.points.at(-1)[1])}`);
  });
  if (lines.length > kept.length) legend.push(make("li", { textContent: `and ${lines.length - kept.length} more` }));
  chart.replaceChildren(svg);
  find("#curves .legend").replaceChildren(...legend);
}

// Heat map
function matrix(section, rowKey, columnKey, content) {
  const down = distinct(rowKey, state.visible), across = distinct(columnKey, state.visible);
  const head = make("tr", {}, make("th", { scope: "col", textContent: `${rowKey} \\ ${columnKey}` }),
    ...across.map((value) => make("th", { scope: "col", textContent: show(value) || "none" })));
  const body = down.map((value) => make("tr", {}, make("th", { scope: "row", textContent: show(value) || "none" }),
    ...across.map((other) => content(state.visible.filter((row) =>
      cell(row, rowKey) === value && cell(row, columnKey) === other)))));
  find(`${section} table`).replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}
function heat() {
  const [rowKey, columnKey, name] = ["#heat-rows", "#heat-columns", "#heat-value"].map((id) => find(id).value);
  if (!rowKey) return;
  const middle = (members) => {
    const values = members.filter((row) => cell(row, "status") !== "diverged").map((row) => cell(row, name))
      .filter((value) => value !== null);
    return values.length ? median(values) : null;
  };
  const medians = [];
  matrix("#heat", rowKey, columnKey, (members) => {
    const value = middle(members), bad = members.filter((row) => BAD.has(cell(row, "status")));
    if (value !== null) medians.push(value);
    const told = bad.length ? `, ${bad.length} of ${members.length} ${[...new Set(bad.map((row) => cell(row, "status")))].join(", ")}` : "";
    const found = make("td", { className: bad.length ? "hatched" : "", title: `${members.length} runs${told}` },
      make("span", { textContent: members.length ? (show(value) || "no value") + told : "" }));
    found.dataset.value = value ?? "";
    return found;
  });
  const ordered = medians.sort((a, b) => a - b);
  for (const found of document.querySelectorAll("#heat td")) {
    if (found.dataset.value === "") continue;
    // By rank, so that one bad cell does not make all others look alike.
    const place = ordered.indexOf(Number(found.dataset.value)) / Math.max(ordered.length - 1, 1);
    const good = direction(name) > 0 ? 1 - place : place;
    found.style.backgroundColor = `hsl(var(--good) / ${(0.05 + 0.6 * good).toFixed(2)})`;
  }
}

// Parallel coordinates
function parallel() {
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
  const values = ranked.map((row) => direction(data.objective) * cell(row, data.objective)).sort((a, b) => a - b);
  for (const row of ranked) {
    const place = values.indexOf(direction(data.objective) * cell(row, data.objective)) / Math.max(values.length - 1, 1);
    svg.append(draw("polyline", { fill: "none", stroke: `hsl(${210 - 190 * place} 75% 48%)`,
      opacity: Math.max(0.25, Math.min(0.9, 20 / ranked.length)), "stroke-width": 1.5,
      "stroke-dasharray": BAD.has(cell(row, "status")) ? "4 3" : "",
      points: names.map((name, index) => `${px(index)},${py(scales[index].place(cell(row, name))).toFixed(1)}`).join(" ")
    }, draw("title", {}, `${cell(row, "run")}: ${show(cell(row, data.objective))}`)));
  }
  names.forEach((name, index) => {
    svg.append(draw("line", { class: "axis", x1: px(index), x2: px(index), y1: M, y2: H - M }),
      draw("text", { x: px(index), y: names.length > 6 && index % 2 ? 24 : 10, "text-anchor": "middle" }, name));
    for (const tick of scales[index].ticks) svg.append(
      draw("text", { x: px(index) + 5, y: py(scales[index].place(tick)) + 4 }, show(tick)));
  });
  chart.replaceChildren(svg);
}

// Samples
function picture(row, step) {
  const source = data.samples.runs[row][step];
  return source ? make("img", { src: source, alt: `Samples of ${cell(row, "run")} at step ${step}` }) : "no picture";
}
function samples() {
  const step = data.samples.steps[Number(find("#step").value)];
  find("#step-text").textContent = step ?? "none";
  const [rowKey, columnKey] = [find("#sample-rows").value, find("#sample-columns").value];
  if (step === undefined || !rowKey) return;
  const seed = find("#sample-seed").value;
  matrix("#samples", rowKey, columnKey, (members) => {
    // Of one seed unless seeds are compared: the same latents in every cell.
    const free = !data.keys.includes("seed") || rowKey === "seed" || columnKey === "seed";
    const shown = members.filter((row) => free || show(cell(row, "seed")) === seed);
    return make("td", {}, shown.length ? picture(shown[0], step) : "");
  });
}

// Failures and cost
function cost() {
  const failed = state.visible.filter((row) => BAD.has(cell(row, "status")) || cell(row, "error") !== null);
  find("#failures").replaceChildren(failed.length ? make("ul", {}, ...failed.map((row) => make("li", {
    textContent: `${cell(row, "run")}: ${cell(row, "status")} at step ${show(cell(row, "steps"))}` +
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

// One run
function bestRow() {
  const sign = direction(data.objective);
  return data.rows.map((_, row) => row)
    .filter((row) => cell(row, "status") === "completed" && cell(row, data.objective) !== null)
    .sort((a, b) => sign * (cell(a, data.objective) - cell(b, data.objective)))[0];
}
function open(row) {
  const best = bestRow(), mine = data.configs[row], theirs = best === undefined ? {} : data.configs[best];
  const value = (config, key) => key in config ? config[key] ?? "not there" : data.default[key] ?? "not there";
  const keys = [...new Set([...Object.keys(mine), ...Object.keys(theirs)])]
    .filter((key) => key in mine || value(mine, key) !== value(theirs, key)).sort();
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...["key", "this run", "best run", "default"]
    .map((name) => make("th", { scope: "col", textContent: name })))), make("tbody", {}, ...keys.map((key) =>
    make("tr", {}, make("th", { scope: "row", textContent: key }), ...[value(mine, key), value(theirs, key),
      data.default[key] ?? "not there"].map((text) => make("td", { textContent: text }))))));
  const facts = make("table", {}, make("tbody", {}, ...data.columns.filter((column) => cell(row, column.name) !== null)
    .map((column) => make("tr", {}, make("th", { scope: "row", textContent: column.name }),
      make("td", { textContent: show(cell(row, column.name)) })))));
  const pictures = data.samples.steps.filter((step) => data.samples.runs[row][step])
    .map((step) => picture(row, step));
  find("#run-title").textContent = cell(row, "run");
  find("#run > div").replaceChildren(make("p", { textContent: data.paths[row] }),
    make("h3", { textContent: "Configuration that is not the default or the best run's" }),
    keys.length ? table : make("p", { textContent: "The default." }), make("h3", { textContent: "Facts" }), facts,
    make("h3", { textContent: "Samples" }), ...pictures);
  find("#run").showModal();
}

function update() {
  const text = find("#filter").value;
  state.visible = state.order.filter((row) => matches(row, text));
  header(); rows(); curves(); heat(); parallel(); samples(); cost();
}
function start() {
  document.title = data.title;
  find("#title").textContent = data.title;
  find("#summary").textContent = `${data.rows.length} runs. ${data.objective}: ` +
    (direction(data.objective) > 0 ? "lower is better." : "higher is better.");
  // At first only what a table of this width can show.
  const first = new Set(["run", ...data.keys, "status", ...data.metrics, "steps", "seconds"]);
  for (const column of data.columns) if (!first.has(column.name)) state.hidden.add(column.name);
  const [a, b] = [data.keys[0], data.keys[1] ?? data.keys[0]];
  choose("#curve-value", data.curves.names);
  choose("#heat-rows", data.keys, a); choose("#heat-columns", data.keys, b); choose("#heat-value", data.metrics);
  choose("#sample-rows", data.keys, a); choose("#sample-columns", data.keys, b);
  if (data.keys.includes("seed")) choose("#sample-seed", distinct("seed", state.order).map(show));
  else find("#sample-seed-label").hidden = true;
  if (data.samples.real) find("#real").append(make("img", { src: data.samples.real, alt: "Real images" }));
  else find("#real").hidden = true;
  const step = find("#step");
  step.max = Math.max(data.samples.steps.length - 1, 0);
  step.value = step.max;
  for (const [id, view] of Object.entries({ "curve-value": curves, smoothing: curves, bands: curves, log: curves,
    most: curves, "heat-rows": heat, "heat-columns": heat, "heat-value": heat, "sample-rows": samples,
    "sample-columns": samples, "sample-seed": samples, step: samples, filter: update })) {
    find(`#${id}`).addEventListener("input", view);
  }
  columnChoices(); ranking(); importance(); update();
}
start();
