// The switches, the legend and the reasons.

// Reasons that the page lists.
const MAX_REASONS = 20;
// Names of registers in a reason.
const MAX_NAMES = 3;

// Returns the reason of a cell in the current view in one line; undefined for a VM that loads.
function explanation(cell) {
  if (view.isWithout) {
    return cell.without_cpreg === "loads" ? undefined : cell.messages?.map(textOf).join(" ");
  }
  if (cell.reason === undefined) {
    return undefined;
  }
  const blockers = cell.parts.map((index) => data.parts[index])
    .filter((part) => part.kind === "blocker" || part.kind === "undecided");
  const names = blockers.flatMap((part) => part.items.map(([name]) => textOf(name)));
  const rest = names.length - MAX_NAMES;
  const listed = names.slice(0, MAX_NAMES).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
  return listed === "" ? textOf(cell.reason) : `${listed}: ${textOf(cell.reason)}`;
}

// Returns the number of VMs and the first VM of each different row.
function countRows(sources) {
  const rows = new Map();
  for (const source of sources) {
    const { row } = data.sources[source];
    const known = rows.get(row);
    if (known === undefined) {
      rows.set(row, { source, number: 1 });
    } else {
      known.number += 1;
    }
  }
  return rows;
}

// Counts the symbols and reasons of all VMs that the filter selects.
function countCells() {
  const symbolCounts = new Map();
  const cells = new Map();
  for (const { source, number } of countRows(view.sources).values()) {
    for (let destination = 0; destination < data.destinations.length; destination += 1) {
      const index = cellIndex(source, destination);
      const known = cells.get(index);
      if (known === undefined) {
        cells.set(index, { number, source, destination });
      } else {
        known.number += number;
      }
    }
  }
  const reasons = new Map();
  for (const [index, { number, source, destination }] of cells) {
    const cell = data.cells[index];
    const { symbol } = symbolOf(cell);
    symbolCounts.set(symbol, (symbolCounts.get(symbol) ?? 0) + number);
    const reason = explanation(cell);
    if (reason !== undefined && reason !== "") {
      const key = `${symbol} ${reason}`;
      const known = reasons.get(key) ?? { symbol, reason, number: 0, source, destination };
      known.number += number;
      reasons.set(key, known);
    }
  }
  return { symbolCounts, reasons: [...reasons.values()].sort((one, other) => other.number - one.number) };
}

// Shows an example of a reason in the table.
function goTo(source, destination) {
  view.page = Math.floor(view.sources.indexOf(source) / PAGE_ROWS);
  showGrid();
  showRange();
  activate(view.sources.indexOf(source) % PAGE_ROWS, destination, true);
}

function showCounts() {
  const { symbolCounts, reasons } = countCells();
  const meanings = view.isWithout ? data.unchanged_symbols : data.symbols;
  document.getElementById("legend").replaceChildren(...meanings
    .filter((it) => symbolCounts.has(it.symbol))
    .map((it) => element("li", {}, symbolMark(it.symbol), ` ${symbolCounts.get(it.symbol)} `, it.meaning)));
  const rows = reasons.slice(0, MAX_REASONS).map((it) => element("tr", {},
    element("td", {}, symbolMark(it.symbol)),
    element("td", { class: "number" }, String(it.number)),
    element("td", {}, it.reason),
    element("td", {}, element("button", {
      type: "button", onclick: () => goTo(it.source, it.destination),
    }, `${data.sources[it.source].name} at ${data.destinations[it.destination].name}`))));
  const titles = ["Symbol", "Cells", "Reason", "Example"];
  document.getElementById("reasons").replaceChildren(
    element("thead", {}, element("tr", {}, ...titles.map((it) => element("th", { scope: "col" }, it)))),
    element("tbody", {}, ...rows));
  document.getElementById("reasons").parentNode.hidden = rows.length === 0;
  document.getElementById("summary").textContent =
    `${count(view.sources.length * data.destinations.length, "cell")}: ${count(view.sources.length, "VM")} at `
    + `${count(data.destinations.length, "destination")}, ${view.isWithout ? "without" : "with"} cpreg. `
    + `Loader: ${data.loaders[view.loader].label}. cpreg ${data.cpreg_version}.`;
}

function showRange() {
  const first = view.page * PAGE_ROWS;
  const last = Math.min(first + PAGE_ROWS, view.sources.length);
  document.getElementById("pages").hidden = view.sources.length <= PAGE_ROWS;
  document.getElementById("range").textContent = `${first + 1} to ${last} of ${view.sources.length}`;
  document.getElementById("previous").disabled = first === 0;
  document.getElementById("next").disabled = last === view.sources.length;
}

function show() {
  showFleet();
  showGrid();
  showRange();
  showCounts();
}

function turnPage(step) {
  view.page += step;
  active.row = 0;
  showGrid();
  showRange();
}

const loaderSwitch = document.getElementById("loader");
loaderSwitch.append(...data.loaders.map((it, index) => element("option", { value: index }, it.label)));
loaderSwitch.addEventListener("change", () => {
  view.loader = Number(loaderSwitch.value);
  show();
});
document.getElementById("switches").addEventListener("submit", (event) => event.preventDefault());
for (const radio of document.querySelectorAll("input[name=load]")) {
  radio.addEventListener("change", () => {
    view.isWithout = radio.value === "without";
    show();
  });
}
document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  const hasWords = (name) => words.every((word) => name.toLowerCase().includes(word));
  const { sources } = data;
  view.sources = sources.map((_, index) => index)
    .filter((index) => hasWords(`${sources[index].name} ${sources[index].node ?? ""}`));
  sortByWays();
  view.page = 0;
  show();
});
document.getElementById("moment").addEventListener("change", (event) => {
  view.moment = Number(event.target.value);
  sortByWays();
  view.page = 0;
  active.row = 0;
  show();
});
document.getElementById("previous").addEventListener("click", () => turnPage(-1));
document.getElementById("next").addEventListener("click", () => turnPage(1));
if (data.left_out.length > 0) {
  const section = document.getElementById("left-out");
  section.hidden = false;
  section.querySelector("ul").append(...data.left_out.map((it) =>
    element("li", {}, element("strong", {}, it.name), `: ${it.error}`)));
}
show();
