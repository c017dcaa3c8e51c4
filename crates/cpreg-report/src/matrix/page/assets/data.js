// The data of the page, and the view of it that the switches choose.

const data = JSON.parse(document.getElementById("data").textContent);

// Cells and rows in the table at a time. More rows are on further pages, so that the browser stays
// fast.
const PAGE_CELLS = 15000;
const PAGE_ROWS = Math.max(20, Math.min(500, Math.floor(PAGE_CELLS / Math.max(1, data.destinations.length))));

const view = {
  loader: 0, isWithout: false, moment: 0, page: 0, sources: data.sources.map((_, index) => index),
};

const textOf = (index) => data.texts[index];

// Symbols with their class in the style sheet: the colour only repeats the letter.
const CLASSES = {
  "+": "loads", "c": "converts", "n": "noticeable", "l": "low", "a": "all", "-": "refused",
  "?": "unknown", "~": "loses", ".": "fails",
};
const symbols = new Map(data.symbols.map((it) => [it.symbol, it]));
const unchangedSymbols = new Map(data.unchanged_symbols.map((it) => [it.result, it]));

const cellIndex = (source, destination) => data.rows[data.sources[source].row][view.loader][destination];
const cellAt = (source, destination) => data.cells[cellIndex(source, destination)];

// Returns the symbol of a cell in the current view, with its meaning.
const symbolOf = (cell) =>
  view.isWithout ? unchangedSymbols.get(cell.without_cpreg) : symbols.get(cell.symbol);

// Returns a new element. Strings become text, never markup.
function element(tag, attributes, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      created.addEventListener(name.slice(2), value);
    } else if (value !== undefined) {
      created.setAttribute(name, value);
    }
  }
  created.append(...children.filter((child) => child !== undefined));
  return created;
}

// Returns an item of a list or a cell with a symbol in its colour.
const symbolMark = (symbol) => element("span", { class: `mark ${CLASSES[symbol]}` }, symbol);

const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
