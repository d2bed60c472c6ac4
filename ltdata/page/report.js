"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { names, counts, groupNames } = data;
  const number = new Intl.NumberFormat("en-US").format;
  const byId = (id) => document.getElementById(id);
  const show = (element) => { element.hidden = false; };
  const total = counts.reduce((sum, n) => sum + n, 0);
  const order = counts.map((_, label) => label).sort((a, b) => counts[b] - counts[a] || a - b);
  const rankOf = new Array(order.length);
  order.forEach((label, place) => { rankOf[label] = place + 1; });
  const groupOf = (label) => groupNames[data.groups[label]];

  // Elements are made, and names set as text: nothing here parses HTML.
  const SVG = "http://www.w3.org/2000/svg";
  const make = (tag, attributes = {}, text = null, space = null) => {
    const element = space ? document.createElementNS(space, tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return element;
  };
  const draw = (tag, attributes, text = null) => make(tag, attributes, text, SVG);
  const isolated = (text) => { // a name: kept apart from the direction around it, broken after its underscores
    const element = make("bdi");
    text.split(/(?<=[_/])/u).forEach((part, at) => element.append(...(at ? [make("wbr"), part] : [part])));
    return element;
  };

  // The chart: one path per run of classes of one group, so that 8,142 classes are drawn as fast as ten.
  const plot = byId("plot");
  const readout = byId("readout");
  const LOWEST = 0.8; // the foot of a log axis: a class of one image is seen
  const state = { scale: "log", place: null, area: null };
  const runs = [];
  order.forEach((label, place) => {
    const group = groupOf(label);
    const run = runs[runs.length - 1];
    if (run && run.group === group) run.end = place + 1;
    else runs.push({ group, start: place, end: place + 1 });
  });
  const drawnFits = () => [...document.querySelectorAll("[data-fit]")].filter((box) => box.checked).map((box) => box.dataset.fit);

  const steps = (most) => {
    const rough = most / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, power * [1, 2, 5, 10].find((times) => times * power >= rough));
    return Array.from({ length: Math.floor(most / step) + 1 }, (_, k) => k * step);
  };
  const powers = (most) => Array.from({ length: Math.floor(Math.log10(most) + 1e-9) + 1 }, (_, k) => 10 ** k);

  const layout = () => {
    const width = Math.max(280, plot.clientWidth);
    const height = width < 600 ? 280 : 380;
    const left = Math.max(38, 14 + 7.2 * number(counts[order[0]]).length);
    const area = { width, height, left, right: width - 8, top: 26, bottom: height - 42 };
    const [inX, inY] = [area.right - left, area.bottom - area.top];
    const logX = state.scale === "loglog";
    const logY = state.scale !== "linear";
    const most = Math.max(counts[order[0]], 2) * (logY ? 1.25 : 1.06);
    const across = logX ? Math.log(2 * order.length + 1) : order.length;
    area.x = (rank) => left + inX * (logX ? Math.log(Math.max(rank, 0.5) / 0.5) : rank - 0.5) / across;
    area.rank = (x) => {
      const part = Math.min(Math.max((x - left) / inX, 0), 1);
      return logX ? 0.5 * Math.exp(part * across) : 0.5 + part * across;
    };
    area.y = (n) => area.bottom - inY * (logY
      ? Math.log(Math.max(n, LOWEST) / LOWEST) / Math.log(most / LOWEST)
      : Math.max(n, 0) / most);
    area.ticksX = logX ? powers(order.length) : steps(order.length).map((rank) => Math.max(1, rank));
    area.ticksY = logY ? powers(most) : steps(most);
    return area;
  };

  const bars = (run, area) => {
    const gap = (area.right - area.left) / order.length > 5 && state.scale !== "loglog" ? 0.08 : 0;
    let path = "";
    for (let place = run.start; place < run.end; place += 1) {
      const [x0, x1] = [area.x(place + 0.5 + gap), area.x(place + 1.5 - gap)];
      const y = area.y(counts[order[place]]);
      if (gap || place === run.start) path += `M${x0.toFixed(2)} ${area.bottom}`;
      path += `V${y.toFixed(2)}H${x1.toFixed(2)}`;
      if (gap || place === run.end - 1) path += `V${area.bottom}Z`;
    }
    return draw("path", { class: `bar ${run.group}`, d: path });
  };

  const line = (points, area) => points
    .map(([rank, n], at) => `${at ? "L" : "M"}${area.x(rank).toFixed(2)} ${area.y(n).toFixed(2)}`).join("");

  const redraw = () => {
    const area = layout();
    state.area = area;
    const picture = draw("svg", { width: area.width, height: area.height, viewBox: `0 0 ${area.width} ${area.height}`, "aria-hidden": "true" });
    const clip = draw("clipPath", { id: "inside" });
    clip.append(draw("rect", { x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top }));
    picture.append(clip);
    for (const run of runs) {
      const [x0, x1] = [area.x(run.start + 0.5), area.x(run.end + 0.5)];
      picture.append(draw("rect", { class: `band ${run.group}`, x: x0, y: area.top, width: x1 - x0, height: area.bottom - area.top }));
      const label = x1 - x0 > 84 ? `${run.group} ${number(run.end - run.start)}` : run.group;
      if (x1 - x0 > 7.2 * label.length) {
        picture.append(draw("text", { class: `band ${run.group}`, x: (x0 + x1) / 2, y: area.top - 9, "text-anchor": "middle" }, label));
      }
    }
    for (const n of area.ticksY) {
      const y = area.y(n);
      if (y < area.top) continue;
      picture.append(draw("path", { class: "grid", d: `M${area.left} ${y}H${area.right}` }));
      picture.append(draw("text", { x: area.left - 6, y: y + 4, "text-anchor": "end" }, number(n)));
    }
    for (const run of runs) picture.append(bars(run, area));
    for (const run of runs.slice(1)) {
      const x = area.x(run.start + 0.5);
      if (runs.length < 12) picture.append(draw("path", { class: "edge", d: `M${x} ${area.top}V${area.bottom}` }));
    }
    picture.append(draw("path", { class: "frame", d: `M${area.left} ${area.bottom}H${area.right}` }));
    for (const rank of area.ticksX) {
      const x = area.x(rank);
      const atEdge = x + 4 * number(rank).length > area.right + 4;
      picture.append(draw("text", {
        x: atEdge ? area.right : x, y: area.bottom + 17, "text-anchor": atEdge ? "end" : "middle",
      }, number(rank)));
    }
    picture.append(draw("text", { x: (area.left + area.right) / 2, y: area.height - 6, "text-anchor": "middle" }, "rank of the class, largest first"));
    const over = draw("g", { "clip-path": "url(#inside)" });
    const curves = drawnFits().map((family) => [family, data.curves[family]]);
    if (data.other) curves.unshift(["other", data.other.counts.map((n, place) => [place + 1, n])]);
    for (const [family, points] of curves) {
      const d = line(points, area);
      over.append(draw("path", { class: "curve-halo", d }), draw("path", { class: `fitted ${family}`, d }));
    }
    picture.append(over, draw("g", { id: "mark" }));
    plot.replaceChildren(picture);
    mark();
  };

  const mark = () => {
    const group = byId("mark");
    if (state.place === null || !group) return;
    const label = order[state.place];
    const { area } = state;
    const [x, y] = [area.x(state.place + 1), area.y(counts[label])];
    group.replaceChildren(
      draw("path", { class: "marker", d: `M${x} ${area.top}V${area.bottom}` }),
      draw("circle", { class: "dot", cx: x, cy: y, r: 4.5 }));
    const images = `${number(counts[label])} ${counts[label] === 1 ? "image" : "images"}`;
    const words = `, rank ${number(state.place + 1)}: ${images}, ${groupOf(label)}-shot, label ${label}`;
    readout.replaceChildren(make("span", { class: `swatch ${groupOf(label)}` }), isolated(names[label]), words);
    plot.setAttribute("aria-valuenow", state.place + 1);
    plot.setAttribute("aria-valuetext", `${names[label]}${words}`);
  };
  const point = (place) => {
    state.place = Math.min(Math.max(place, 0), order.length - 1);
    mark();
  };

  show(byId("chart"));
  show(document.querySelector(".switch"));
  plot.setAttribute("aria-valuemax", order.length);
  plot.addEventListener("pointermove", (event) => {
    point(Math.round(state.area.rank(event.clientX - plot.getBoundingClientRect().left)) - 1);
  });
  plot.addEventListener("pointerdown", (event) => {
    point(Math.round(state.area.rank(event.clientX - plot.getBoundingClientRect().left)) - 1);
  });
  plot.addEventListener("keydown", (event) => {
    const at = state.place ?? -1;
    const far = Math.max(1, Math.round(order.length / 20));
    const to = {
      ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1,
      PageUp: at + far, PageDown: at - far, Home: 0, End: order.length - 1,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    point(to);
  });
  for (const button of document.querySelectorAll("[data-scale]")) {
    button.addEventListener("click", () => {
      state.scale = button.dataset.scale;
      for (const each of document.querySelectorAll("[data-scale]")) each.setAttribute("aria-pressed", each === button);
      redraw();
    });
  }
  for (const box of document.querySelectorAll("[data-fit]")) box.addEventListener("change", redraw);
  byId("bands").append(make("span", { class: "note" }, `rule ${data.rule}:`));
  for (const group of groupNames) {
    const classes = order.filter((label) => groupOf(label) === group).length;
    const key = make("span");
    key.append(make("span", { class: `swatch ${group}` }), `${group} (${data.conditions[group]}): ${classes ? `${number(classes)} classes` : "n/a"}`);
    byId("bands").append(key);
  }
  if (data.other) {
    const key = make("span");
    key.append(isolated(data.other.name), make("span", { class: "line" }));
    byId("bands").append(key);
  }
  redraw();
  if (window.ResizeObserver) {
    let width = plot.clientWidth;
    new ResizeObserver(() => {
      if (plot.clientWidth !== width) { width = plot.clientWidth; redraw(); }
    }).observe(plot);
  }

  // The table: a page of rows at a time.
  const ROWS = 50;
  const PRINTED = 1000; // paper has no pages to turn: all rows, up to some thirty sheets
  const table = { key: "rank", falling: false, page: 0, found: order };
  const folded = names.map((each) => each.normalize("NFKC").toLowerCase().replaceAll("_", " "));
  const compare = {
    rank: (a, b) => rankOf[a] - rankOf[b],
    label: (a, b) => a - b,
    name: (a, b) => (folded[a] < folded[b] ? -1 : folded[a] > folded[b] ? 1 : a - b),
    count: (a, b) => counts[a] - counts[b] || rankOf[b] - rankOf[a],
    group: (a, b) => data.groups.charCodeAt(a) - data.groups.charCodeAt(b) || rankOf[a] - rankOf[b],
  };

  const search = () => {
    const query = byId("query").value.normalize("NFKC").toLowerCase().replaceAll("_", " ").trim();
    const group = byId("group").value;
    const asked = groupNames.includes(query) && !folded.some((each) => each.includes(query));
    table.found = order.filter((label) => (!group || groupOf(label) === group)
      && (!query || folded[label].includes(query) || String(label) === query || (asked && groupOf(label) === query)));
    const sign = table.falling ? -1 : 1;
    table.found.sort((a, b) => sign * compare[table.key](a, b));
    table.page = 0;
    fill();
  };

  const fill = (first = table.page * ROWS, shown = ROWS) => {
    const pages = Math.max(1, Math.ceil(table.found.length / ROWS));
    const rows = table.found.slice(first, first + shown).map((label) => {
      const row = make("tr");
      const title = make("th", { scope: "row" });
      title.append(isolated(names[label]), make("span", { class: "narrow note" }, ` #${label}`));
      const amount = make("td", { class: "number" }, number(counts[label]));
      const bar = make("span", { class: `amount swatch ${groupOf(label)}`, "aria-hidden": "true" });
      bar.style.width = `${(100 * counts[label] / Math.max(1, counts[order[0]])).toFixed(1)}%`;
      amount.append(bar);
      const group = make("td", { class: "group" });
      group.append(make("span", { class: `swatch ${groupOf(label)}` }), groupOf(label));
      row.append(
        make("td", { class: "number" }, number(rankOf[label])), title, make("td", { class: "wide number" }, String(label)),
        amount, make("td", { class: "wide number" }, `${(100 * counts[label] / total).toFixed(2)}%`), group);
      return row;
    });
    byId("rows").replaceChildren(...rows);
    byId("none").hidden = table.found.length > 0;
    byId("matches").textContent = `${number(table.found.length)} of ${number(order.length)} classes`;
    byId("page").textContent = `page ${number(table.page + 1)} of ${number(pages)}`;
    for (const button of document.querySelectorAll("[data-page]")) {
      button.disabled = ["first", "previous"].includes(button.dataset.page) ? table.page === 0 : table.page >= pages - 1;
    }
  };

  show(byId("table"));
  byId("query").addEventListener("input", search);
  byId("group").addEventListener("change", search);
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      table.falling = table.key === button.dataset.sort ? !table.falling : button.dataset.sort === "count";
      table.key = button.dataset.sort;
      for (const each of document.querySelectorAll("[data-sort]")) each.closest("th").removeAttribute("aria-sort");
      button.closest("th").setAttribute("aria-sort", table.falling ? "descending" : "ascending");
      search();
    });
  }
  for (const button of document.querySelectorAll("[data-page]")) {
    button.addEventListener("click", () => {
      const last = Math.max(0, Math.ceil(table.found.length / ROWS) - 1);
      table.page = { first: 0, previous: Math.max(0, table.page - 1), next: Math.min(last, table.page + 1), last }[button.dataset.page];
      fill();
    });
  }
  search();
  addEventListener("beforeprint", () => {
    fill(0, PRINTED);
    byId("printed").hidden = table.found.length <= PRINTED;
    byId("printed").textContent = `The first ${number(PRINTED)} of ${number(table.found.length)} classes.`;
  });
  addEventListener("afterprint", () => {
    byId("printed").hidden = true;
    fill();
  });

  // Copying: where the clipboard is refused, the text is selected instead.
  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  for (const button of document.querySelectorAll("[data-copy]")) {
    show(button);
    button.addEventListener("click", async () => {
      const target = byId(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(target.textContent);
        button.textContent = "Copied";
      } catch {
        select(target);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
