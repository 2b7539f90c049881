// The log: the last slots of every node as a strip that moves, and the story of one slot.

import {getJson} from "./api.js";
import {count, dress, h, nodeColour, say} from "./dom.js";

const GLYPHS = {proposed: "·", accepted: "", chosen: "✓", applied: ""};
const LEGEND = [["proposed", "proposed"], ["accepted", "accepted, by how many"], ["chosen", "chosen: a quorum has it"],
  ["applied", "applied, with so many commands"], ["noop", "no-op: fills a gap"], ["none", "not here yet"]];

const columnsThatFit = () => Math.max(10, Math.min(40, Math.floor((Math.min(innerWidth, 1300) - 130) / 29)));

function describeCell(id, slot, one) {
  if (!one) return `node ${id}, slot ${slot}: nothing here yet`;
  const by = one.accepted_by.length ? `, accepted by ${one.accepted_by.map(node => `node ${node}`).join(", ")}` : "";
  const what = one.no_op ? ", a no-op" : one.commands !== null ? `, ${one.commands} commands` : "";
  return `node ${id}, slot ${slot}: ${one.state}${one.ballot ? ` in ballot ${one.ballot}` : ""}${by}${what}`;
}

function paintCell(cell, id, slot, one, newBallot, fresh) {
  const state = !one ? "none" : one.no_op ? "noop" : one.state;
  dress(cell, `cell ${state}${newBallot ? " ballot" : ""}${fresh ? " fresh" : ""}`);
  const text = !one ? "" : one.no_op ? "∅" : one.state === "applied" ? String(one.commands > 999 ? "1k" : one.commands)
    : one.state === "accepted" ? String(one.accepted_by.length) : GLYPHS[one.state];
  say(cell, text);
  const about = describeCell(id, slot, one);
  if (cell.title !== about) { cell.title = about; cell.setAttribute("aria-label", about); }
  if (newBallot) cell.style.setProperty("--colour", nodeColour(Number(one.ballot.split(".")[1])));
  cell.dataset.slot = slot;
}

function message(event, id) {
  if (event.name === "sent") return `${event.message} → node ${event.peer}`;
  if (event.name === "received") return `${event.message} ← node ${event.peer}`;
  if (event.name === "own") return `${event.message}: its own vote is on disk`;
  return event.name === "proposed" ? "puts a value into the slot" : event.name === "applied" ? "applies it" : event.name;
}

function story(found) {
  const events = found.nodes.filter(node => node.document)
    .flatMap(node => node.document.events.map(event => ({...event, node: node.id}))).sort((a, b) => a.at_ms - b.at_ms);
  const commands = found.nodes.map(node => node.document && node.document.commands).find(Boolean);
  const first = events.length ? events[0].at_ms : 0;
  const flow = events.length ? h("ol", {class: "flow"}, events.map(event => h("li", {},
    h("span", {class: "soft mono"}, `+${(event.at_ms - first).toFixed(2)} ms`),
    h("span", {class: "who"}, h("span", {class: "dot", style: {"--colour": nodeColour(event.node)}}), `node ${event.node}`),
    h("span", {}, h("span", {class: "soft"}, ""), message(event, event.node), event.ballot ? h("span", {class: "soft"}, ` in ballot ${event.ballot}`) : null))))
    : h("p", {class: "soft"}, "Its messages are no longer kept: under load a ring of some seconds is full soon.");
  return h("div", {class: "two"},
    h("div", {}, h("h3", {}, "Messages"), h("p", {class: "soft small"}, "By each node's own clock."), flow),
    h("div", {}, h("h3", {}, "Commands"), h("p", {class: "soft small"}, commands ? `${commands.length} in this slot` : ""),
      commands ? h("pre", {class: "mono value", tabindex: 0}, commands.join("\n")) : h("p", {class: "soft"}, "The log no longer holds this slot.")));
}

export function open(view) {
  const rows = new Map();
  const rate = h("span", {class: "soft"});
  const strips = h("section", {class: "card strips", "aria-label": "The last slots of each node"});
  const detail = h("section", {class: "card pad", hidden: true, "aria-live": "polite"});
  const pause = h("button", {type: "button", "aria-pressed": "false"}, "Pause");
  let held = false, seen = 0, last = null, picked = null;
  const legend = h("div", {class: "legend", "aria-label": "Legend"}, LEGEND.map(([name, text]) =>
    h("span", {}, h("span", {class: `cell ${name}`, "aria-hidden": "true"}, {applied: "3", accepted: "2", chosen: "✓", noop: "∅", proposed: "·"}[name] || ""), text)),
    h("span", {}, "a coloured edge: a new ballot, in its node's colour"));
  pause.addEventListener("click", () => {
    held = !held;
    pause.setAttribute("aria-pressed", String(held));
    say(pause, held ? "Go on" : "Pause");
  });

  async function pick(slot) {
    picked = slot;
    detail.hidden = false;
    detail.replaceChildren(h("h2", {}, `Slot ${count(slot)}`), h("p", {class: "soft"}, "asking all nodes …"));
    try {
      const found = await getJson(`/v1/slots/${slot}`);
      if (picked === slot) detail.replaceChildren(h("h2", {}, `Slot ${count(slot)}`), story(found));
    } catch (error) {
      detail.replaceChildren(h("h2", {}, `Slot ${count(slot)}`), h("p", {class: "bad"}, error.message));
    }
  }
  strips.addEventListener("click", event => {
    const cell = event.target.closest("button.cell");
    if (cell) pick(Number(cell.dataset.slot));
  });
  strips.addEventListener("keydown", event => {
    const cell = event.target.closest("button.cell");
    if (!cell) return;
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    const to = step === 1 ? cell.nextElementSibling : step === -1 ? cell.previousElementSibling : null;
    if (to) { to.focus(); event.preventDefault(); }
  });

  function row(id, columns) {
    let found = rows.get(id);
    if (found && found.cells.length === columns) return found;
    if (found) found.box.remove();
    const cells = Array.from({length: columns}, (_, at) => h("button", {type: "button", class: "cell none", tabindex: at === columns - 1 ? 0 : -1}));
    const name = h("span", {}, h("span", {class: "dot", style: {"--colour": nodeColour(id)}}), `node ${id}`);
    found = {cells, name, box: h("div", {class: "strip", "data-node": id}, name, h("div", {class: "cells", style: {"--columns": columns}}, cells))};
    rows.set(id, found);
    return found;
  }

  function numbers(first, columns) {
    const spans = Array.from({length: columns}, (_, at) => h("span", {}, (first + at) % 5 === 0 ? String(first + at) : ""));
    return h("div", {class: "strip numbers", "aria-hidden": "true"}, h("span", {}, "slot"), h("div", {class: "cells", style: {"--columns": columns}}, spans));
  }

  function update(overview) {
    const alive = overview.nodes.filter(node => node.document);
    const tops = alive.map(node => (node.document.slots.length ? node.document.slots.at(-1).slot : node.document.cluster.chosen_through));
    const top = Math.max(1, ...tops);
    if (last) {
      const per_s = (top - last.top) / Math.max(0.2, (Date.now() - last.at) / 1000);
      say(rate, per_s > 0.05 ? `${per_s >= 10 ? count(per_s) : per_s.toFixed(1)} slots/s` : "idle");
    }
    last = {top, at: Date.now()};
    if (held) return;
    const columns = columnsThatFit(), first = Math.max(1, top - columns + 1);
    const order = [numbers(first, columns)];
    for (const node of overview.nodes) {
      const {cells, box, name} = row(node.id, columns);
      const known = new Map((node.document ? node.document.slots : []).map(one => [one.slot, one]));
      const through = node.document ? node.document.cluster.applied_through : 0;
      let ballot = "";
      cells.forEach((cell, at) => {
        const slot = first + at, one = known.get(slot) || (slot <= through ? {slot, state: "applied", ballot: "", accepted_by: [], commands: "", no_op: false} : null);
        const isNew = Boolean(one && one.ballot && ballot && one.ballot !== ballot);
        if (one && one.ballot) ballot = one.ballot;
        paintCell(cell, node.id, slot, one, isNew, slot > seen && seen > 0 && Boolean(one));
      });
      name.classList.toggle("bad", !node.document);
      order.push(box);
    }
    seen = top;
    const focused = document.activeElement;
    if (strips.children.length !== order.length || [...strips.children].slice(1).some((box, at) => box !== order[at + 1])) strips.replaceChildren(...order);
    else strips.firstChild.replaceWith(order[0]);
    if (focused && strips.contains(focused)) focused.focus();
  }
  view.replaceChildren(h("div", {class: "stack"},
    h("div", {class: "row spread"}, h("div", {}, h("h1", {}, "The log"), h("p", {class: "soft"}, "Each slot is one instance of Paxos. Choose one to see its messages and commands.")), h("div", {class: "row"}, rate, pause)),
    strips, legend, detail));
  return {update, repaint() {}};
}
