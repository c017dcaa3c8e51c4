// The table of VMs and destinations, and its keyboard.

const grid = document.getElementById("grid");
const current = document.getElementById("current");
// Place of the cell that Tab reaches, in the table's rows and columns from 0.
const active = { row: 0, column: 0 };
// Rows that Page Up and Page Down pass.
const PAGE_STEP = 10;

const shownSources = () => view.sources.slice(view.page * PAGE_ROWS, (view.page + 1) * PAGE_ROWS);

// Returns the cell of the table at a place; undefined if the table is empty.
const cellElement = (row, column) => grid.tBodies[0]?.rows[row]?.cells[column + 1];

function headRow() {
  const corner = element("th", { scope: "col", class: "corner" }, "VM");
  const columns = data.destinations.map((it, index) => element("th", { scope: "col", class: "column", title: it.name },
    element("span", {}, `${index + 1} ${it.name}${nodesOf(index)}`)));
  return element("tr", {}, corner, ...columns);
}

function bodyRow(source) {
  const row = document.createElement("tr");
  const name = data.sources[source].name;
  row.append(element("th", { scope: "row", title: name }, ...rowTitle(source)));
  for (let destination = 0; destination < data.destinations.length; destination += 1) {
    const cell = document.createElement("td");
    const { symbol } = symbolOf(cellAt(source, destination));
    cell.className = CLASSES[symbol];
    cell.textContent = symbol;
    row.append(cell);
  }
  return row;
}

// Describes the active cell in words, for readers of the page and for screen readers.
function describeActive() {
  const source = shownSources()[active.row];
  const cell = cellElement(active.row, active.column);
  if (cell === undefined || source === undefined) {
    return;
  }
  const { symbol, meaning } = symbolOf(cellAt(source, active.column));
  const names = `${data.sources[source].name} at ${data.destinations[active.column].name}`
    + nodesOf(active.column);
  cell.setAttribute("aria-label", `${symbol}, ${meaning}: ${names}`);
  current.replaceChildren(symbolMark(symbol), ` ${names}: ${meaning}`);
}

// Makes a cell the one that Tab reaches.
function activate(row, column, hasFocus) {
  const previous = cellElement(active.row, active.column);
  previous?.removeAttribute("tabindex");
  previous?.removeAttribute("aria-label");
  const rows = grid.tBodies[0].rows.length;
  active.row = Math.max(0, Math.min(row, rows - 1));
  active.column = Math.max(0, Math.min(column, data.destinations.length - 1));
  const cell = cellElement(active.row, active.column);
  if (cell === undefined) {
    current.textContent = "";
    return;
  }
  cell.setAttribute("tabindex", "0");
  describeActive();
  if (hasFocus) {
    cell.focus();
  }
}

// Makes the table for the current view.
function showGrid() {
  grid.setAttribute("aria-rowcount", view.sources.length + 1);
  grid.setAttribute("aria-colcount", data.destinations.length + 1);
  grid.style.setProperty("--columns", data.destinations.length);
  const body = element("tbody", {}, ...shownSources().map(bodyRow));
  grid.replaceChildren(element("thead", {}, headRow()), body);
  activate(active.row, active.column, false);
}

// Returns the place of an event in the table; undefined outside of the cells.
function placeOf(event) {
  const cell = event.target.closest("tbody td");
  return cell === null ? undefined : { row: cell.parentNode.sectionRowIndex, column: cell.cellIndex - 1 };
}

const openActive = () => openDetails(shownSources()[active.row], active.column);

grid.addEventListener("click", (event) => {
  const place = placeOf(event);
  if (place !== undefined) {
    activate(place.row, place.column, true);
    openActive();
  }
});

grid.addEventListener("mouseover", (event) => {
  const place = placeOf(event);
  if (place !== undefined) {
    const source = shownSources()[place.row];
    const { symbol, meaning } = symbolOf(cellAt(source, place.column));
    current.replaceChildren(symbolMark(symbol),
      ` ${data.sources[source].name} at ${data.destinations[place.column].name}: ${meaning}`);
  }
});

grid.addEventListener("keydown", (event) => {
  if (placeOf(event) === undefined || event.altKey || event.metaKey) {
    return;
  }
  const last = data.destinations.length - 1;
  const lastRow = grid.tBodies[0].rows.length - 1;
  const { row, column } = active;
  const moves = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    Home: [event.ctrlKey ? 0 : row, 0],
    End: [event.ctrlKey ? lastRow : row, last],
    PageUp: [row - PAGE_STEP, column],
    PageDown: [row + PAGE_STEP, column],
  };
  if (event.key === "Enter" || event.key === " ") {
    openActive();
  } else if (moves[event.key] !== undefined) {
    activate(...moves[event.key], true);
  } else {
    return;
  }
  event.preventDefault();
});
