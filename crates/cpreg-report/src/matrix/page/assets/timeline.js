// The timeline of a register over the recorded kernels.

const timelines = new Map(data.registers.map((it) => [textOf(it.name), it]));

// Returns the register of a part's name, which may name a field: `SCTLR_EL1.EPAN`.
const registerOf = (name) => timelines.get(name) ?? timelines.get(name.split(".")[0]);

// Returns values with their guests, one below the other.
function valueList(pairs) {
  if (pairs.length === 0) {
    return [];
  }
  const items = pairs.map(([value, guests]) => {
    const isForAll = textOf(guests) === "every guest";
    return element("li", {}, element("code", {}, textOf(value)), isForAll ? "" : `: ${textOf(guests)}`);
  });
  return [element("ul", {}, ...items)];
}

// Returns the first lines of a timeline: one column for each kernel, one character in each cell.
function timelineStrip(timeline, defaults) {
  const lanes = [["listed", []], ["hidden", []], ["default", []]];
  // Kernels report the writable bits of ID registers only.
  const hasMasks = timeline.spans.some((span) => span.writable.length > 0);
  if (hasMasks) {
    lanes.push(["writable", []]);
  }
  let kernel = 0;
  for (const span of timeline.spans) {
    const key = JSON.stringify(span.values);
    for (let index = 0; index < span.kernels; index += 1, kernel += 1) {
      const isHidden = timeline.hidden && kernel >= timeline.hidden.first_kernel;
      const isListed = span.guests !== undefined;
      lanes[0][1].push(isListed ? "l" : "-");
      lanes[1][1].push(isHidden ? "h" : "-");
      lanes[2][1].push(isListed ? defaults.get(key) : "-");
      lanes[3]?.[1].push(span.writable.some(([mask]) => textOf(mask) !== "0x0") ? "w" : "-");
    }
  }
  const head = element("tr", {}, element("td", {}),
    ...data.kernels.map((name) => element("th", { scope: "col", class: "column" }, element("span", {}, name))));
  const rows = lanes.map(([name, marks]) => element("tr", {}, element("th", { scope: "row" }, name),
    ...marks.map((mark) => element("td", { class: mark === "-" ? "absent" : `lane ${name}` }, mark))));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "kernels" },
    element("table", { class: "strip" }, element("thead", {}, head), element("tbody", {}, ...rows)));
}

// Returns a section with the timeline of a register.
function timelineSection(name) {
  const timeline = registerOf(name);
  const title = textOf(timeline.name);
  // Kernels with the same default values share a letter.
  const defaults = new Map();
  for (const span of timeline.spans) {
    const key = JSON.stringify(span.values);
    if (span.guests !== undefined && !defaults.has(key)) {
      defaults.set(key, String.fromCharCode(65 + defaults.size % 26));
    }
  }
  let kernel = 0;
  const rows = timeline.spans.map((span) => {
    const first = data.kernels[kernel];
    kernel += span.kernels;
    const last = data.kernels[kernel - 1];
    const letter = span.guests === undefined ? "" : `${defaults.get(JSON.stringify(span.values))} `;
    const errnos = (span.write_back_errnos ?? []).join(", ");
    return element("tr", {},
      element("th", { scope: "row" }, first === last ? first : `${first} to ${last}`),
      element("td", {}, span.guests === undefined ? "no guest" : textOf(span.guests)),
      element("td", {}, letter, ...valueList(span.values),
        errnos === "" ? "" : `writing it back fails with errno ${errnos}`),
      element("td", {}, ...valueList(span.writable)));
  });
  const titles = ["Kernels", "Listed for", "Default (reset value)", "Writable bits"];
  return element("section", { class: "timeline" },
    element("h3", { tabindex: "-1" }, `${title} over the recorded kernels`),
    element("p", {}, timeline.purpose === undefined ? "" : textOf(timeline.purpose)),
    element("p", {}, `KVM ${textOf(timeline.accepted)}`),
    timeline.hidden
      ? element("p", {}, `h: hidden from a guest whose ${textOf(timeline.hidden.condition)}`)
      : undefined,
    timelineStrip(timeline, defaults),
    element("p", { class: "key" }, "l: listed · h: hidden by an ID field · A, B …: default values · w: writable bits · -: none"),
    element("table", { class: "spans" },
      element("thead", {}, element("tr", {}, ...titles.map((it) => element("th", { scope: "col" }, it)))),
      element("tbody", {}, ...rows)));
}
