"use strict";
// Makes the page interactive: charts, the selection that they share, and tables. Without it the page
// shows the static figures and the whole tables.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  // A table is its columns: values, or distinct values and their places. Charts with equal rows share
  // it, and each needs rows of its own.
  const rowsOf = (table) => {
    const columns = Object.entries(table).map(([name, { of, at }]) =>
      [name, at ? at.map((place) => of[place]) : of]);
    return columns[0][1].map((_, row) =>
      Object.fromEntries(columns.map(([name, values]) => [name, values[row]])));
  };
  for (const chart of Object.values(data.charts)) chart.rows = rowsOf(data.tables[chart.rows]);
  const state = { hidden: new Set(), selected: null };
  const views = [];
  const tip = document.getElementById("tip");

  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  // Selection: one design or family is highlighted in every chart and table.
  const pill = document.getElementById("selected");
  function select(name) {
    state.selected = name === state.selected ? null : name;
    for (const each of views) each.view.signal("selected", state.selected).runAsync();
    for (const row of document.querySelectorAll("tr[data-design]"))
      row.classList.toggle("selected", row.dataset.design === state.selected);
    pill.hidden = state.selected === null;
    pill.querySelector("span").textContent = state.selected ?? "";
  }
  pill.querySelector("button").addEventListener("click", () => select(state.selected));

  function toggle(family, alone) {
    const names = new Set(views.flatMap((each) => each.chart.families.map((f) => f[0])));
    if (alone) {
      const only = [...names].every((name) => name === family || state.hidden.has(name));
      state.hidden = new Set(only ? [] : [...names].filter((name) => name !== family));
    } else if (!state.hidden.delete(family)) state.hidden.add(family);
    for (const button of document.querySelectorAll(".legend button"))
      button.setAttribute("aria-pressed", String(!state.hidden.has(button.dataset.family)));
    for (const each of views) update(each);
  }

  // Limits of the axes: all visible points, and of their intervals at most as much again, so that
  // one wide interval does not compress the others.
  function limits(each, channel) {
    const field = each.fields[channel];
    if (!field) return;
    const rows = each.chart.rows.filter((row) => !state.hidden.has(row.family));
    const middle = rows.map((row) => row[field]).filter((value) => value != null);
    if (!middle.length) return;
    let [low, high] = [Math.min(...middle), Math.max(...middle)];
    if (field === "z") [low, high] = [low / 1.25, high * 1.25];
    else {
      const room = high - low || Math.abs(high) * 0.1 || 1;
      const ends = (end) => rows.map((row) => row[field + end]).filter((value) => value != null);
      low = Math.max(Math.min(low, ...ends("_low")), low - room) - 0.05 * room;
      const least = low < 0 && Math.min(...middle) >= 0 ? 0 : low;
      high = Math.min(Math.max(high, ...ends("_high")), high + room) + 0.05 * room;
      // A count or an error cannot be negative, whatever a wide interval says.
      // The scale of active units is logarithmic but for its start.
      if (least !== low) low = field === "active_units" ? -0.3 : -0.03 * high;
    }
    each.view.signal(channel + "lo", low).signal(channel + "hi", high);
  }

  function update(each) {
    limits(each, "x");
    limits(each, "y");
    each.view.signal("hidden", [...state.hidden]).signal("selected", state.selected).runAsync();
  }

  const quiet = "#8c959f55";
  const config = {
    background: null,
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      labelColor: "currentColor", titleColor: "currentColor", titleFontWeight: 500,
      labelFontSize: 11, titleFontSize: 12, gridColor: quiet, domainColor: quiet, tickColor: quiet,
    },
    text: { color: "currentColor" },
    point: { strokeWidth: 0 },
  };

  // Replaces a metric, and the ends of its interval, on one channel of all layers.
  function exchange(spec, channel, old, option) {
    for (const layer of spec.layer ?? [spec])
      for (const [name, coding] of Object.entries(layer.encoding))
        if (name === channel || name === channel + "2") {
          for (const end of ["", "_low", "_high"])
            if (coding.field === old + end) coding.field = option.field + end;
          if (name === channel) coding.title = option.title;
          if (coding.scale) coding.scale.type = option.scale;
        }
  }

  // Gives families the colours and shapes of the legend.
  function colourFamilies(spec, families) {
    const domain = families.map(([name]) => name);
    const ranges = { color: families.map((f) => f[1]), shape: families.map((f) => f[2]) };
    for (const layer of spec.layer ?? [spec])
      for (const [channel, range] of Object.entries(ranges))
        if (layer.encoding[channel]?.field === "family")
          layer.encoding[channel].scale = { domain, range };
  }

  function tooltip(chart, event, item, value) {
    tip.hidden = value == null || value === "";
    if (tip.hidden) return;
    const list = make("dl");
    for (const [name, text] of Object.entries(value))
      if (text != null && text !== "null" && text !== "NaN")
        list.append(make("dt", { textContent: name }), make("dd", { textContent: text }));
    tip.replaceChildren(list, ...pictured(chart, item?.datum));
    const { clientX: x, clientY: y } = event;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, x + 16 + box.width > innerWidth ? x - box.width - 12 : x + 16)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - box.height - 8))}px`;
  }

  // The image of a point of a map and its reconstruction, cut from the sheets of the page.
  function pictured(chart, point) {
    return chart.sheets.filter((sheet) => point?.i < sheet.count).map((sheet) => {
      const node = make("span", { className: "thumb", title: sheet.title });
      const scale = Math.max(1, Math.floor(64 / sheet.width));
      const [column, row] = [point.i % sheet.columns, Math.floor(point.i / sheet.columns)];
      node.style.width = `${sheet.width * scale}px`;
      node.style.height = `${sheet.height * scale}px`;
      node.style.backgroundImage = `url(${data.images[sheet.source]})`;
      node.style.backgroundSize = `${sheet.columns * sheet.width * scale}px auto`;
      node.style.backgroundPosition = `${-column * sheet.width * scale}px ${-row * sheet.height * scale}px`;
      return node;
    });
  }

  async function draw(each) {
    each.view?.finalize();
    const spec = structuredClone(each.chart.spec);
    for (const [channel, options] of Object.entries(each.chart.axes))
      exchange(spec, channel, options[0].field, options.find((o) => o.field === each.fields[channel]));
    colourFamilies(spec, each.chart.families);
    spec.datasets = { rows: each.chart.rows };
    spec.description = each.chart.description;
    const compiled = vegaLite.compile(spec, { config }).spec;
    const runtime = vega.parse(compiled, null, { ast: true });
    each.view = new vega.View(runtime, {
      renderer: "svg", container: each.node, hover: true,
      tooltip: (_, event, item, value) => tooltip(each.chart, event, item, value),
      expr: vegaInterpreter.expressionInterpreter,
    });
    each.view.addEventListener("click", (_, item) => {
      const name = item?.datum?.design;
      if (name) select(name);
    });
    update(each);
    await each.view.runAsync();
  }

  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };

  function legend(chart) {
    const node = make("div", { className: "legend" });
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", "Designs shown");
    for (const [name, colour, shape] of chart.families) {
      const button = make("button", { type: "button", title: "Click to hide or show; double-click to show it alone" });
      button.dataset.family = name;
      button.setAttribute("aria-pressed", "true");
      const symbol = svg("svg", { viewBox: "-6 -6 12 12", width: 12, height: 12, "aria-hidden": "true" });
      const path = shape.startsWith("M") ? shape : null;
      symbol.append(path ? svg("path", { d: path, transform: "scale(4.5)", fill: colour })
        : svg("path", { d: outline(shape), fill: colour }));
      button.append(symbol, name);
      button.addEventListener("click", (event) => event.detail < 2 && toggle(name, false));
      button.addEventListener("dblclick", () => { toggle(name, false); toggle(name, true); });
      node.append(button);
    }
    return node;
  }

  function outline(shape) {
    return {
      circle: "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0", square: "M-4,-4H4V4H-4Z",
      "triangle-up": "M0,-5L5,4H-5Z", "triangle-down": "M0,5L5,-4H-5Z", diamond: "M0,-5.5L4,0L0,5.5L-4,0Z",
      cross: "M-1.5,-5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z",
      "triangle-left": "M-5,0L4,-5V5Z", "triangle-right": "M5,0L-4,-5V5Z",
    }[shape];
  }

  for (const figure of document.querySelectorAll("[data-chart]")) {
    const chart = data.charts[figure.dataset.chart];
    const node = make("div", { className: "plot" });
    const each = { chart, node, fields: {}, view: null };
    const bar = make("div", { className: "bar" });
    for (const [channel, options] of Object.entries(chart.axes)) {
      each.fields[channel] = options[0].field;
      if (options.length < 2) continue;
      const choice = make("select");
      for (const { field, label } of options) choice.append(new Option(label, field));
      choice.addEventListener("change", () => { each.fields[channel] = choice.value; draw(each); });
      bar.append(make("label", {}, channel === "x" ? "Horizontal: " : "Vertical: ", choice));
    }
    if (bar.childElementCount) figure.append(bar);
    figure.append(node);
    const home = figure.closest("figure");
    if (chart.families.length > 1 && !home.querySelector(".legend"))
      home.insertBefore(legend(chart), home.querySelector("figcaption"));
    views.push(each);
    draw(each);
  }

  // The decoder of two latent dimensions: a chain of affine maps with int8 weights.
  function decode(decoder, code) {
    let x = code;
    decoder.layers.forEach(({ weight, scale, bias }, place) => {
      const last = place === decoder.layers.length - 1;
      x = bias.map((b, row) => {
        let sum = 0;
        for (let i = 0; i < x.length; i++) sum += weight[row * x.length + i] * x[i];
        const value = sum * scale[row] + b;
        if (last) return decoder.output === "sigmoid" ? 1 / (1 + Math.exp(-value)) : value;
        return decoder.activation === "relu" ? Math.max(0, value) : Math.tanh(value);
      });
    });
    return x;
  }

  const sliders = document.getElementById("decoder");
  if (sliders && data.decoder) {
    const decoder = data.decoder;
    for (const layer of decoder.layers)
      layer.weight = Int8Array.from(atob(layer.weight), (letter) => letter.charCodeAt(0));
    const [height, width, channels] = decoder.shape;
    const canvas = sliders.querySelector("canvas");
    Object.assign(canvas, { width, height });
    const inputs = [...sliders.querySelectorAll("input")];
    const show = () => {
      const code = inputs.map((each) => Number(each.value) * decoder.prior);
      inputs.forEach((each) => { each.nextElementSibling.textContent = Number(each.value).toFixed(2); });
      const pixels = decode(decoder, code);
      const image = new ImageData(width, height);
      const area = width * height;
      for (let i = 0; i < area; i++)
        for (let c = 0; c < 4; c++)
          image.data[4 * i + c] = c === 3 ? 255 : Math.round(255 * pixels[(channels === 3 ? c : 0) * area + i]);
      canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
    };
    inputs.forEach((each) => each.addEventListener("input", show));
    show();
    sliders.hidden = false;
  }

  // Tables: sort by a column, filter rows, hide columns whose rows are all equal.
  const number = (text) => {
    const found = text.replace(/[,\u00a0\s]/g, "").replace(/\u2212/g, "-").match(/^[-+]?\d*\.?\d+(e[-+]?\d+)?/i);
    return found ? Number(found[0]) : null;
  };

  function sort(table, place, heads) {
    const head = heads[place];
    const rising = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const numeric = head.classList.contains("number");
    const key = (row) => row.cells[place].textContent.trim();
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      const [x, y] = numeric ? [number(a), number(b)] : [null, null];
      if (x === null && y === null) {
        const text = a.localeCompare(b, "en", { numeric: true });
        return rising ? text : -text;
      }
      // Entries without a number are last in both directions.
      if (x === null || y === null) return x === null ? 1 : -1;
      return rising ? x - y : y - x;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  for (const table of document.querySelectorAll("table.data")) {
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows];
    heads.forEach((head, place) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, place, heads));
    });
    if (rows.length < 3) continue;
    const bar = make("div", { className: "bar" });
    const box = make("input", { type: "search", placeholder: "Filter rows" });
    box.setAttribute("aria-label", `Filter rows of: ${table.dataset.title}`);
    const count = make("span", { className: "count" });
    count.setAttribute("role", "status");
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        left += !row.hidden;
      }
      count.textContent = words.length ? `${left} of ${rows.length} rows` : "";
    });
    bar.append(box, count);
    const equal = heads.map((_, i) => rows.every((row) => row.cells[i].textContent === rows[0].cells[i].textContent));
    const places = [...heads.keys()].filter((i) => equal[i]);
    if (places.length && places.length < heads.length) {
      const button = make("button", { type: "button", className: "columns" });
      const show = (hide) => {
        button.setAttribute("aria-pressed", String(!hide));
        button.textContent = `${hide ? "Show" : "Hide"} ${places.length} column${places.length > 1 ? "s" : ""} with equal rows`;
        for (const row of table.rows) places.forEach((i) => { row.cells[i].hidden = hide; });
        for (const row of table.rows) {
          const first = [...row.cells].find((cell) => !cell.hidden);
          for (const cell of row.cells) cell.classList.toggle("first", cell === first);
        }
      };
      show(true);
      button.addEventListener("click", () => show(button.getAttribute("aria-pressed") === "true"));
      bar.append(button);
    }
    table.parentElement.before(bar);
    for (const row of rows)
      if (row.dataset.design) row.addEventListener("click", () => select(row.dataset.design));
  }

  for (const button of document.querySelectorAll("button[data-select]"))
    button.addEventListener("click", () => select(button.dataset.select));

  // Findings: show some verdicts only.
  for (const button of document.querySelectorAll("button[data-verdict]"))
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      const pressed = [...document.querySelectorAll("button[data-verdict][aria-pressed=true]")];
      const chosen = new Set(pressed.map((each) => each.dataset.verdict));
      for (const claim of document.querySelectorAll("[data-claim]"))
        claim.hidden = chosen.size > 0 && !chosen.has(claim.dataset.claim);
    });

  // The contents mark the section that is in view.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries)
      if (entry.isIntersecting) {
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const section of document.querySelectorAll("section[id]")) seen.observe(section);
  document.documentElement.dataset.ready = "true";
})();
