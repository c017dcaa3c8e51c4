// The nodes of a fleet, and the moments of its upgrade. A page without a fleet shows none of this.

const fleet = data.fleet;
const momentSwitch = document.getElementById("moment");
const countsNow = () => fleet.moments[view.moment].counts;

// Returns the number of nodes of a class, as a part of its name.
const nodesOf = (destination) => (fleet === undefined ? "" : ` (${count(countsNow()[destination], "node")})`);

const isTaken = (symbol) => symbol === "+" || symbol === "c" || symbol === "n";

// Returns the number of nodes of each row that take its VMs.
const takers = new Map();
function takersOf(row) {
  const known = takers.get(row);
  if (known !== undefined) {
    return known;
  }
  const counts = countsNow();
  let sum = 0;
  data.rows[row][view.loader].forEach((index, destination) => {
    sum += isTaken(data.cells[index].symbol) ? counts[destination] : 0;
  });
  takers.set(row, sum);
  return sum;
}

// Returns the number of other nodes that take a VM. After its node was upgraded, the VM is on a node
// that takes it, or was shut down.
function waysOf(source) {
  const { row, class: own } = data.sources[source];
  const sum = takersOf(row);
  if (own === undefined || sum === 0) {
    return sum;
  }
  const isOnOwn = countsNow()[own] > 0;
  const takesOwn = isTaken(data.cells[data.rows[row][view.loader][own]].symbol);
  return isOnOwn && !takesOwn ? sum : sum - 1;
}

// Sorts the shown VMs, the worst first.
function sortByWays() {
  takers.clear();
  if (fleet === undefined) {
    return;
  }
  const ways = new Map(view.sources.map((source) => [source, waysOf(source)]));
  view.sources.sort((one, other) => ways.get(one) - ways.get(other) || one - other);
}

// Returns the title of a row: the number of nodes that take the VM, its name and its node.
function rowTitle(source) {
  const { name, node } = data.sources[source];
  if (fleet === undefined) {
    return [name];
  }
  const ways = waysOf(source);
  return [
    element("span", { class: ways === 0 ? "ways refused" : "ways" }, ways === 0 ? "no way" : count(ways, "way")),
    " ", element("span", { class: "name" }, name),
    element("span", { class: "node" }, node === undefined ? "" : ` on ${node}`),
  ];
}

function headOf(titles) {
  return element("thead", {}, element("tr", {}, ...titles.map((it) => element("th", { scope: "col" }, it))));
}

const numberCell = (number) => element("td", { class: "number" }, String(number));

function showClasses() {
  const counts = countsNow();
  const rows = fleet.classes.map((it, index) => element("tr", {},
    numberCell(index + 1),
    element("td", {}, data.destinations[index].name),
    numberCell(counts[index]),
    numberCell(it.vms),
    element("td", {}, it.first_nodes.join(", "))));
  document.getElementById("classes").replaceChildren(
    headOf(["Class", "Record", "Nodes", "VMs now", "First nodes now"]), element("tbody", {}, ...rows));
}

// Returns the steps of the upgrade as a table.
function stepsTable(upgrade) {
  const rows = upgrade.steps.map((step, index) => element("tr", {},
    numberCell(index + 1),
    element("td", {}, step.host),
    numberCell(step.nodes),
    numberCell(step.to_upgraded),
    numberCell(step.to_others),
    element("td", {}, ...step.stuck.map((it) => element("p", {},
      `${count(it.vms, "VM")} such as ${it.example}: ${it.blockers.slice(0, MAX_NAMES).join(", ")}`
      + `${it.blockers.length > 0 ? ": " : ""}${it.reason ?? "no reason is known"}`))),
    numberCell(step.movable)));
  const titles = ["Step", "Nodes of", "Nodes", "VMs to upgraded nodes", "VMs to others", "Without a way",
    "With a way afterwards"];
  return element("table", { class: "rows" }, headOf(titles), element("tbody", {}, ...rows));
}

function showUpgrade() {
  const { upgrade } = fleet;
  if (upgrade === undefined) {
    return;
  }
  const doors = upgrade.one_way.map((it) => element("li", {},
    `${it.host}: ${it.blockers.join(", ")}${it.blockers.length > 0 ? ": " : ""}${it.reason ?? ""}`));
  document.getElementById("upgrade").replaceChildren(...[
    element("h2", {}, `Upgrade to ${upgrade.to}`),
    element("p", {}, `VMs with a way to another node: before ${upgrade.movable_before} of ${upgrade.vms}, `
      + `after ${upgrade.movable_after}`),
    stepsTable(upgrade),
    doors.length === 0 ? undefined : element("p", {}, "VMs that are born after the upgrade do not return to:"),
    doors.length === 0 ? undefined : element("ul", {}, ...doors),
    upgrade.settings.length === 0 ? undefined : element("p", {}, "Settings of new VMs that help: ",
      element("code", {}, upgrade.settings.join(", "))),
  ].filter((child) => child !== undefined));
}

function showFleet() {
  if (fleet === undefined) {
    return;
  }
  const stuck = data.sources.reduce((sum, _, source) => sum + (waysOf(source) === 0 ? 1 : 0), 0);
  document.getElementById("fleet-summary").textContent =
    `${count(data.sources.length, "VM")}, ${stuck} without a known way to another node; `
    + `${fleet.usable_nodes} of ${count(fleet.nodes, "node")} usable. Moment: ${fleet.moments[view.moment].label}.`;
  showClasses();
}

if (fleet !== undefined) {
  document.title = "cpreg fleet";
  document.getElementById("title").textContent = "cpreg fleet";
  document.getElementById("grid-title").textContent = "VMs at classes of nodes, worst first";
  document.getElementById("fleet").hidden = false;
  document.getElementById("nodes").hidden = false;
  document.getElementById("moment-label").hidden = fleet.moments.length === 1;
  showUpgrade();
  momentSwitch.append(...fleet.moments.map((it, index) => element("option", { value: index }, it.label)));
}
