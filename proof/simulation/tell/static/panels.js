/* What surrounds the picture: head, filters, steps, log, legend, and the text shown on hover. */

const find = id => document.getElementById(id);

function element(name, content, className) {
  const node = document.createElement(name);
  if (content instanceof Node) node.append(content); else node.textContent = content;
  if (className) node.className = className;
  return node;
}

function fillHead(recording) {
  find("title").textContent = recording.title;
  document.title = recording.title;
  find("summary").textContent = recording.summary;
  find("command").textContent = recording.command;
  find("command-box").hidden = !recording.command;
  find("facts-box").hidden = !recording.facts.length;
  find("facts").replaceChildren(...recording.facts.map(([name, value]) => {
    const box = document.createElement("div");
    box.append(element("dt", name), element("dd", value));
    return box;
  }));
  const button = find("copy");
  button.addEventListener("click", async () => {
    button.textContent = await copied(recording.command, find("command")) ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

/* Whether the text is on the clipboard; if not, it is at least selected. */
async function copied(text, shownIn) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shownIn);
    return document.execCommand("copy");
  }
}

/* The filters by message name, in families; `changed` after each choice. */
function fillFilters(model, hidden, changed) {
  const counts = new Map();
  for (const message of model.messages.byId.values()) {
    counts.set(message.name, (counts.get(message.name) || 0) + 1);
  }
  const total = () => {
    find("filter-count").textContent = `${counts.size - hidden.size} of ${counts.size} kinds`;
  };
  const boxFor = name => {
    const box = document.createElement("input"), label = document.createElement("label");
    box.type = "checkbox";
    box.value = name;
    box.checked = !hidden.has(name);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(name); else hidden.add(name);
      total();
      changed();
    });
    label.className = "check";
    label.append(box, ` ${name} `, element("span", counts.get(name).toLocaleString("en"), "soft"));
    return label;
  };
  const names = [...counts.keys()].sort();
  const groups = FAMILIES.map(family => [family, names.filter(name => familyOf(name) === family)]);
  find("filter-sheet").replaceChildren(...groups.filter(([, of]) => of.length).map(([family, of]) => {
    const group = document.createElement("fieldset");
    group.append(element("legend", family.label), ...of.map(boxFor));
    return group;
  }));
  total();
}

function fillJumps(model) {
  const kinds = [["leader", "leader changes"], ["crash", "crashes"], ["fault", "faults"],
    ["violation", "violations"]];
  const there = kinds.filter(([kind]) => model.interests.some(each => each.kind === kind));
  find("jumps").hidden = !there.length;
  find("jump-kind").replaceChildren(...[["all", "any event"], ...there].map(([kind, label]) => {
    const count = model.interests.filter(each => kind === "all" || each.kind === kind).length;
    const option = element("option", `${label} (${count})`);
    option.value = kind;
    return option;
  }));
}

function fillSteps(model, go) {
  find("steps-box").hidden = !model.notes.length;
  find("stage").classList.toggle("with-steps", model.lesson);
  find("steps-title").textContent = model.lesson ? "Steps" : "Milestones";
  find("steps").replaceChildren(...model.notes.map((note, i) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    const who = note.node === null ? "" : ` · node ${note.node}`;
    button.append(element("span", `${note.number}`, "number"), element("span", note.text, "sentence"),
      element("span", shownTime(note.at) + who, "soft when"));
    button.addEventListener("click", () => go(i));
    item.append(button);
    return item;
  }));
}

function showStep(step, count) {
  find("step-back").disabled = step <= 0;
  find("step-on").disabled = step >= count - 1;
  [...find("steps").children].forEach((item, i) => {
    const button = item.firstChild;
    if (i === step) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
    if (i !== step) return;
    const list = find("steps"), top = item.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + item.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 3;
    }
  });
}

/* Lane labels beside the canvas, with what each node is at `at`. */
function fillGutter(model, lanes, clientsShown) {
  const labels = [];
  const add = (className, y, ...content) => {
    const label = document.createElement("div");
    label.className = `lane ${className}`;
    label.style.top = `${y}px`;
    label.append(...content);
    labels.push(label);
    return label;
  };
  if (model.faultRows) add("faults", lanes.faultsTop + 8, element("span", "Faults", "soft"));
  if (clientsShown) {
    for (const client of model.clients) add("client", lanes.clients.get(client), `Client ${client}`);
  }
  for (const node of model.nodes) {
    const label = add("node", lanes.nodes.get(node), element("strong", `Node ${node}`),
      element("span", "", "role"));
    label.dataset.node = node;
    STATES.forEach((state, row) => {
      add(`state ${state}`, lanes.nodes.get(node) + 12 + row * CHIP_ROW + CHIP_ROW / 2 - 1, state);
    });
  }
  find("gutter").replaceChildren(...labels);
}

function roleAt(model, node, at) {
  const at_ = span => span.from <= at && (span.until === null || span.until > at);
  const {downs, roles} = model.lives.get(node), down = downs.find(at_);
  if (down) return down.kind === "absent" ? "not started" : down.kind;
  return roles.findLast(at_)?.kind || "";
}

function showRoles(model, at) {
  for (const label of document.querySelectorAll("#gutter .node")) {
    const role = roleAt(model, Number(label.dataset.node), at), span = label.lastChild;
    if (span.textContent === role) continue;
    span.textContent = role;
    span.className = `role ${ROLES.has(role) || POWER.has(role) ? role : ""}`;
  }
}

const LOG_COLUMNS_MAX = 12, LOG_COLUMN_PIXELS = 132, LOG_LOOK_BACK = 4000;

/* Per node, the latest `columns` slots it had at `at`: slot to {state, ballot, value}. */
function logAt(model, at, columns) {
  const ends = new Map(model.nodes.map(node => [node, after(model.slots.get(node), at)]));
  let highest = 0;
  for (const [node, end] of ends) {
    for (let i = end - 1; i >= Math.max(end - 200, 0); i--) {
      highest = Math.max(highest, model.slots.get(node)[i].slot);
    }
  }
  const first = Math.max(1, highest - columns + 1), rows = new Map();
  for (const [node, end] of ends) {
    const found = new Map(), slots = model.slots.get(node);
    for (let i = end - 1; i >= Math.max(end - LOG_LOOK_BACK, 0); i--) {
      const {slot, state, ballot, value} = slots[i];
      if (slot < first) continue;
      const was = found.get(slot);
      if (!was) found.set(slot, {state, ballot, value});
      else if (STATES.indexOf(state) > STATES.indexOf(was.state)) was.state = state;
    }
    rows.set(node, found);
  }
  return {first, highest, rows};
}

function logCell(entry) {
  if (!entry) return element("td", "", "none");
  const cell = element("td", "", entry.state);
  cell.title = entry.value;
  const sign = {accepted: "○", chosen: "◐", applied: "●"}[entry.state] || "";
  cell.append(element("span", shownValue(entry.value), "value"),
    element("span", `${sign} ${entry.state}${entry.ballot ? ` ${entry.ballot}` : ""}`, "state"));
  return cell;
}

function showLog(model, at) {
  const fits = Math.floor((find("picture").clientWidth - 90) / LOG_COLUMN_PIXELS);
  const columns = Math.min(Math.max(fits, 3), LOG_COLUMNS_MAX);
  const {first, highest, rows} = logAt(model, at, columns);
  find("log-box").hidden = !model.nodes.some(node => model.slots.get(node).length);
  find("log-time").textContent = `at ${shownTime(at)}`;
  const head = document.createElement("tr");
  head.append(element("th", highest ? "Slot" : "empty"));
  for (let slot = first; slot <= highest; slot++) {
    const known = model.nodes.map(node => rows.get(node).get(slot))
      .filter(entry => entry && entry.state !== "accepted").map(entry => entry.value);
    const torn = new Set(known).size > 1;
    head.append(element("th", torn ? `${slot} ≠` : `${slot}`, torn ? "bad number" : "number"));
  }
  const body = model.nodes.map(node => {
    const row = document.createElement("tr");
    row.append(element("th", `Node ${node}`));
    for (let slot = first; slot <= highest; slot++) row.append(logCell(rows.get(node).get(slot)));
    return row;
  });
  const top = document.createElement("thead"), rest = document.createElement("tbody");
  top.append(head);
  rest.append(...body);
  find("log").replaceChildren(top, rest);
}

/* What a thing under the pointer is: a title, a text, and facts. */
function described(thing, model) {
  const lasted = span => [["From", shownTime(span.from)],
    ["Until", span.until === null ? "the end of the recording" : shownTime(span.until)],
    ...(span.until === null ? [] : [["Lasted", shownTime(span.until - span.from)]])];
  const slotFacts = slot => [["Value", slot.value === "" ? "no-op" : slot.value],
    ["Ballot", slot.ballot], ["At", shownTime(slot.at)]];
  switch (thing.is) {
    case "message": return {title: `${thing.name} · node ${thing.sender} → node ${thing.to}`,
      text: thing.text, facts: [["Ballot", thing.ballot], ["Slot", thing.slot],
        ["Sent", shownTime(thing.from)], ...thing.ends.map(end => end.lost === null
          ? ["Delivered", `${shownTime(end.at)} (after ${shownTime(end.at - thing.from)})`]
          : ["Lost", `${shownTime(end.at)}: ${end.lost}`]),
        ...(thing.ends.length ? [] : [["On its way", "when the recording ended"]])]};
    case "span": return {title: `Node ${thing.node} · ${thing.kind}`, text: thing.text,
      facts: lasted(thing)};
    case "cut": return {title: `Node ${thing.node} · ${thing.text}`, text: "", facts: lasted(thing)};
    case "fault": return {title: `Fault · ${thing.name}`, text: thing.text, facts: [
      ["Nodes", thing.nodes.join(", ")], ["Cut links", shownLinks(thing.cut)], ...lasted(thing)]};
    case "request": return {title: `Client ${thing.client} → node ${thing.node}`, text: thing.text,
      facts: [["Key", thing.key], ["Outcome", thing.outcome], ["Answer", thing.answer],
        ...lasted(thing)]};
    case "slot": return {title: `Node ${thing.node} · slot ${thing.slot} ${thing.state}`, text: "",
      facts: slotFacts(thing)};
    case "chips": return {title: `Node ${thing.node} · ${thing.things.length} slots ${thing.state}`,
      text: "", facts: [["Slots", `${thing.low} to ${thing.high}`], ["From", shownTime(thing.things[0].at)],
        ["Until", shownTime(thing.things[thing.things.length - 1].at)], ["", "zoom in to see each"]]};
    case "mark": return {title: `Node ${thing.node} · ${thing.name}`, text: thing.text,
      facts: [["At", shownTime(thing.at)]]};
    default: return {title: `${model.lesson ? "Step" : "Milestone"} ${thing.number}`,
      text: thing.text, facts: [["At", shownTime(thing.at)]]};
  }
}

function shownLinks(cut) {
  const all = cut.map(([a, b]) => `${a}→${b}`);
  return all.length > 12 ? `${all.slice(0, 12).join(" ")} and ${all.length - 12} more` : all.join(" ");
}

const brief = text => text.length > 600 ? `${text.slice(0, 600)}…` : text;

/* Show the text of `thing` near the pointer, or hide it. */
function showTip(thing, model, x, y) {
  const tip = find("tip");
  tip.hidden = !thing;
  if (!thing) return;
  const {title, text, facts} = described(thing, model), list = document.createElement("dl");
  for (const [name, value] of facts) {
    if (value === null || value === undefined || value === "") continue;
    list.append(element("dt", name), element("dd", brief(String(value))));
  }
  tip.replaceChildren(element("strong", title), ...(text ? [element("p", brief(text))] : []), list);
  const {offsetWidth: width, offsetHeight: height} = tip;
  const left = x + 16 + width > innerWidth ? Math.max(x - width - 16, 4) : x + 16;
  const top = y + 16 + height > innerHeight ? Math.max(y - height - 12, 4) : y + 16;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}
