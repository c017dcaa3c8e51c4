// The dialog with the content of one cell.

const details = document.getElementById("details");
const detailsContent = document.getElementById("details-content");

const KINDS = [
  ["blocker", "Blocks the load"],
  ["undecided", "Not decided"],
  ["change", "Left out, kept or set by cpreg"],
  ["visible", "Visible to the guest"],
];

// Shows the timeline of a register below the other content.
function showTimeline(name) {
  detailsContent.querySelector(".timeline")?.remove();
  const section = timelineSection(name);
  detailsContent.append(section);
  const heading = section.querySelector("h3");
  heading.focus();
  heading.scrollIntoView({ block: "start" });
}

function itemRow([nameIndex, source, destination]) {
  const name = textOf(nameIndex);
  const label = registerOf(name) === undefined
    ? name
    : element("button", {
      type: "button", class: "register", title: "Timeline over kernels", onclick: () => showTimeline(name),
    }, name);
  const value = (index) => (index === null ? "" : textOf(index));
  return element("tr", {}, element("th", { scope: "row" }, label),
    element("td", {}, value(source)), element("td", {}, value(destination)));
}

function list(title, className, indexes) {
  if (indexes === undefined || indexes.length === 0) {
    return undefined;
  }
  return element("div", { class: className }, element("h4", {}, title),
    element("ul", {}, ...indexes.map((index) => element("li", {}, textOf(index)))));
}

function partSection(part) {
  const hasValues = part.items.some(([, source, destination]) => source !== null || destination !== null);
  const items = hasValues
    ? element("table", { class: "items" },
      element("thead", {}, element("tr", {}, ...["Register", "VM", "Destination"].map((it) => element("th", { scope: "col" }, it)))),
      element("tbody", {}, ...part.items.map(itemRow)))
    : element("p", { class: "names" }, ...part.items.flatMap((item, index) =>
      [index === 0 ? "" : ", ", itemRow(item).querySelector("th").firstChild]));
  return element("article", { class: part.kind },
    items,
    element("p", { class: "reason" }, element("strong", {}, textOf(part.decision)), `: ${textOf(part.reason)}`),
    list("Kernels and VMMs", "history", part.history),
    list("Way out", "remedies", part.remedies));
}

// Returns the commands that lead on from a cell.
function commands(source, destination, cell) {
  const loader = data.loaders[view.loader].option;
  const from = data.sources[source];
  const pair = `${from.argument} ${data.destinations[destination].argument}`;
  const options = `${loader}${data.options}`;
  if (from.argument === "") {
    return undefined;
  }
  const lines = [["everything about this cell", `cpreg check ${pair}${options}`]];
  const consents = cell.consents === undefined ? "" : textOf(cell.consents);
  if (from.is_new && consents !== "") {
    lines.push(["the same with the proposed consents", `cpreg check ${pair}${options}${consents}`]);
  } else if (!from.is_new && (cell.symbol === "c" || cell.symbol === "n" || consents !== "")) {
    lines.push(["a copy of the VM that loads there", `cpreg convert ${pair} -o OUTPUT${options}${consents}`]);
  }
  return element("section", { class: "commands" }, element("h3", {}, "Commands"),
    ...lines.map(([purpose, command]) => element("p", {}, `${purpose}: `, element("code", {}, command))));
}

// Opens the dialog for a cell. Its focus returns to the cell when it closes.
function openDetails(source, destination) {
  const cell = cellAt(source, destination);
  const unchanged = unchangedSymbols.get(cell.without_cpreg);
  const verdict = symbols.get(cell.symbol);
  document.getElementById("details-title").textContent =
    `${data.sources[source].name} → ${data.destinations[destination].name}`;
  const sections = KINDS.map(([kind, title]) => {
    const parts = cell.parts.map((index) => data.parts[index]).filter((part) => part.kind === kind);
    return parts.length === 0
      ? undefined
      : element("section", {}, element("h3", {}, title), ...parts.map(partSection));
  });
  const isReasonShown = cell.parts.some((index) => data.parts[index].reason === cell.reason);
  const children = [
    element("p", { class: "verdict" }, symbolMark(verdict.symbol), ` with cpreg: ${verdict.meaning}`,
      cell.severity === undefined ? "" : ` (highest severity: ${cell.severity})`),
    element("p", { class: "verdict" }, symbolMark(unchanged.symbol), ` ${unchanged.meaning}`),
    element("p", {}, `${count(data.sources[source].vcpus, "vCPU")}, loader: ${data.loaders[view.loader].label}`),
    cell.reason === undefined || isReasonShown ? undefined : element("p", { class: "reason" }, textOf(cell.reason)),
    ...sections,
    cell.messages === undefined ? undefined : element("section", {},
      element("h3", {}, "Messages of the loader without cpreg"),
      element("pre", {}, cell.messages.map(textOf).join("\n"))),
    commands(source, destination, cell),
  ];
  detailsContent.replaceChildren(...children.filter((child) => child !== undefined));
  details.showModal();
  details.scrollTop = 0;
  document.getElementById("details-title").focus();
}

document.getElementById("close").addEventListener("click", () => details.close());
details.addEventListener("click", (event) => {
  // A click beside the dialog has the dialog itself as its target.
  if (event.target === details) {
    details.close();
  }
});
