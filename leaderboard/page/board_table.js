// A table of many rows, drawn from the component's value (see leaderboard/page/tables.py). Only the rows in view are in the page. All text goes in
// as text, never as HTML: much of it was written by strangers.

const ROW = 46;
const BEYOND = 6;
const collator = new Intl.Collator(undefined, { numeric: true });
const isFigure = (column) => column.kind === "decimal" || column.kind === "percent";

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A cell: its text, its key for sorting, and its text for searching.

function shownFigure([value, low, high], kind) {
  if (kind === "decimal") return [value.toFixed(3), `[${low.toFixed(3)}, ${high.toFixed(3)}]`];
  const percent = (part) => (100 * part).toFixed(1);
  return [`${percent(value)} %`, `[${percent(low)}, ${percent(high)}]`];
}

function cellOf(column, value) {
  if (value === null || value === "") return make("td", { className: "mia-none" }, "");
  if (isFigure(column)) {
    const [middle, interval] = shownFigure(value, column.kind);
    return make("td", { className: "mia-number" }, middle, make("small", {}, interval));
  }
  if (column.kind === "claims") {
    const text = value.map(([figure]) => figure.toFixed(3)).join(", ");
    return make("td", { className: "mia-number", title: value.map(([figure, source]) => `${figure}: ${source}`).join("\n") }, text);
  }
  if (column.kind === "number") return make("td", { className: "mia-number" }, value.toLocaleString("en"));
  if (column.kind === "mean") return make("td", { className: "mia-number" }, value.toFixed(2));
  if (column.key === "attack") return attackCell(value);
  return make("td", { title: value }, value);
}

// An attack's name, and below it the parameters that differ from its defaults: "sima:timesteps=40,70", "pia given complexity, mirror".
function attackCell(value) {
  const [, name, parameters] = value.match(/^(.+?)(?::| (?=given ))(.+)$/s) ?? [value, value];
  return make("td", { title: value }, name, ...(parameters ? [make("small", {}, parameters)] : []));
}

function sortKey(column, value) {
  if (value === null || value === "") return null;
  if (isFigure(column)) return value[0];
  return column.kind === "claims" ? value[0][0] : value;
}

// Files. A spreadsheet would compute a cell that begins like a formula; an apostrophe before it makes it text.

function csvCell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const disarmed = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(disarmed) ? `"${disarmed.replaceAll('"', '""')}"` : disarmed;
}

function linkOf(table, number) {
  const [what, which] = table.links[number].split(/=(.*)/s);
  return { [what]: which, attack: table.rows[number][table.columns.findIndex((column) => column.key === "attack")] };
}

function entryOf(table, number) {
  return linkOf(table, number).entry ?? null;
}

function asCsv(table, order) {
  const head = table.columns.flatMap((c) => (isFigure(c) ? [c.key, `${c.key}_low`, `${c.key}_high`] : c.kind === "claims" ? [c.key, `${c.key}_source`] : [c.key]));
  const line = (row) =>
    table.columns.flatMap((c, i) => {
      if (isFigure(c)) return row[i] ?? ["", "", ""];
      if (c.kind === "claims") return row[i] ? [row[i].map(([v]) => v).join("; "), row[i].map(([, s]) => s).join("; ")] : ["", ""];
      return [row[i]];
    });
  const lines = order.map((number) => [...line(table.rows[number]), entryOf(table, number) ?? ""]);
  return [[...head, "entry"], ...lines].map((cells) => cells.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function asJson(table, order) {
  const value = (column, cell) => {
    if (cell !== null && isFigure(column)) return { value: cell[0], low: cell[1], high: cell[2] };
    return cell !== null && column.kind === "claims" ? cell.map(([figure, source]) => ({ value: figure, source })) : cell;
  };
  const rows = order.map((number) => ({
    ...Object.fromEntries(table.columns.map((column, i) => [column.key, value(column, table.rows[number][i])])),
    entry: entryOf(table, number),
  }));
  return JSON.stringify(rows, null, 2) + "\n";
}

function save(name, content, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function draw(table) {
  const root = element.querySelector(".mia-board");
  if (!table) return;
  root.replaceChildren();
  if (!table.rows.length) {
    root.append(make("div", { className: "mia-empty" }, make("p", {}, table.empty)));
    return;
  }
  const { columns, rows } = table;
  const text = rows.map((row) => columns.map((c, i) => (c.kind === "text" ? (row[i] ?? "") : "")).join("\n").toLowerCase());
  // The first column of text stays in view where the table scrolls sideways.
  const pin = columns.findIndex((column) => column.kind === "text");
  const chosen = new Map();
  let order = [], sorted = null, active = 0, from = -1, to = -1;

  const search = make("input", { type: "search", placeholder: "Search", "aria-label": "Search in this table", maxLength: 200 });
  const count = make("span", { className: "mia-count", role: "status" });
  const facets = columns.flatMap((column, i) => {
    const values = [...new Set(rows.map((row) => row[i] ?? ""))].sort(collator.compare);
    if (!column.facet || values.length < 2 || values.length > 200) return [];
    const options = values.map((value) => make("option", { value }, value || "—"));
    const select = make("select", { "aria-label": column.name }, make("option", { value: "\u0000" }, `${column.name}: all`), ...options);
    select.addEventListener("change", () => {
      if (select.value === "\u0000") chosen.delete(i);
      else chosen.set(i, select.value);
      apply();
    });
    return [select];
  });
  const files = [
    ["CSV", asCsv, "text/csv;charset=utf-8", "csv"],
    ["JSON", asJson, "application/json", "json"],
  ].map(([name, write, type, ending]) => {
    const button = make("button", { type: "button", title: `The rows that are shown now, as a ${name} file` }, name);
    button.addEventListener("click", () => save(`${table.name}.${ending}`, write(table, order), type));
    return button;
  });
  const head = make("tr");
  columns.forEach((column, i) => {
    const button = make("button", { type: "button", title: column.help }, column.name);
    button.addEventListener("click", () => {
      // Figures: the largest first; then the smallest; then as it was.
      const down = column.kind !== "text";
      sorted = sorted?.column !== i ? { column: i, down } : sorted.down === down ? { column: i, down: !down } : null;
      apply();
    });
    head.append(make("th", { scope: "col", style: `width: ${column.width}ch`, className: column.kind === "text" ? "" : "mia-number" }, button));
  });
  head.children[pin].classList.add("mia-pinned");
  const body = make("tbody");
  const scroll = make("div", { className: "mia-scroll" });
  scroll.append(make("table", { style: `min-width: ${columns.reduce((sum, c) => sum + c.width + 2, 0)}ch` }, make("thead", {}, head), body));
  root.append(
    make("div", { className: "mia-tools" }, search, ...facets, make("span", { className: "mia-files" }, count, ...files)),
    scroll,
  );

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    order = [];
    for (let i = 0; i < rows.length; i++) {
      let matches = words.every((word) => text[i].includes(word));
      for (const [column, value] of chosen) matches &&= (rows[i][column] ?? "") === value;
      if (matches) order.push(i);
    }
    if (sorted) {
      const column = columns[sorted.column];
      const keys = rows.map((row) => sortKey(column, row[sorted.column]));
      const compare = column.kind === "text" ? collator.compare : (a, b) => a - b;
      order.sort((a, b) => {
        // What has no figure is last, either way.
        if (keys[a] === null || keys[b] === null) return (keys[a] === null) - (keys[b] === null);
        return sorted.down ? compare(keys[b], keys[a]) : compare(keys[a], keys[b]);
      });
    }
    [...head.children].forEach((th, i) => th.setAttribute("aria-sort", sorted?.column !== i ? "none" : sorted.down ? "descending" : "ascending"));
    const all = rows.length.toLocaleString("en");
    count.textContent = order.length === rows.length ? `${all} ${rows.length === 1 ? "row" : "rows"}` : `${order.length.toLocaleString("en")} of ${all} rows`;
    scroll.scrollTop = active = 0;
    from = to = -1;
    render();
  }

  function render() {
    const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - BEYOND);
    const last = Math.min(order.length, first + Math.ceil((scroll.clientHeight || 640) / ROW) + 2 * BEYOND);
    if (first === from && last === to) return;
    const focused = body.contains(document.activeElement);
    [from, to] = [first, last];
    const space = (count) => make("tr", { "aria-hidden": "true", style: `height: ${count * ROW}px` });
    const lines = order.slice(first, last).map((number, i) => {
      const cells = columns.map((column, c) => cellOf(column, rows[number][c]));
      cells[pin].classList.add("mia-pinned");
      const line = make("tr", { className: "mia-line", tabIndex: first + i === active ? 0 : -1 }, ...cells);
      line.dataset.place = first + i;
      return line;
    });
    if (!lines.length) lines.push(make("tr", {}, make("td", { colSpan: columns.length, className: "mia-none" }, "No row is like that. Search for less, or choose “all” above.")));
    body.replaceChildren(...(first ? [space(first)] : []), ...lines, ...(last < order.length ? [space(order.length - last)] : []));
    if (focused) body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }

  function open(line) {
    if (line) trigger("select", linkOf(table, order[Number(line.dataset.place)]));
  }

  function move(place) {
    active = Math.min(Math.max(place, 0), order.length - 1);
    const headed = head.offsetHeight;
    if (active * ROW < scroll.scrollTop) scroll.scrollTop = active * ROW;
    else if ((active + 1) * ROW + headed > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = (active + 1) * ROW + headed - scroll.clientHeight;
    from = to = -1;
    render();
    body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }

  search.addEventListener("input", apply);
  body.addEventListener("click", (event) => open(event.target.closest(".mia-line")));
  body.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    if (event.key in steps) move(active + steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") open(event.target.closest(".mia-line"));
    else return;
    event.preventDefault();
  });
  scroll.addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
  // In a tab that isn't shown it has no height yet.
  new ResizeObserver(render).observe(scroll);
  apply();
}

const show = () => draw(props.value ? JSON.parse(props.value) : null);
watch("value", show);
show();
