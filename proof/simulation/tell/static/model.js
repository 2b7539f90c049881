"use strict";

/* The model: a recording's events, put together into what the picture draws. Times are virtual
   microseconds throughout. A thing that lasts has `from` and `until`; `until` is null while the
   recording does not say that it ended. */

const FAMILIES = [
  {key: "phase1", label: "Phase 1", dash: [7, 3],
    names: ["PreVote", "PreVoteReply", "Prepare", "Promise"]},
  {key: "phase2", label: "Phase 2", dash: [], names: ["Accept", "Accepted", "Chosen"]},
  {key: "refusal", label: "Refusals", dash: [2, 2], names: ["Nack", "Refusal"]},
  {key: "reads", label: "Reads", dash: [5, 2, 1, 2], names: ["ReadIndex", "ReadIndexReply"]},
  {key: "catchup", label: "Catching up", dash: [12, 3],
    names: ["Fetch", "Fetched", "Truncated", "SnapshotAsk", "SnapshotPiece"]},
  {key: "heartbeat", label: "Heartbeats, digests", dash: [1, 3],
    names: ["Heartbeat", "HeartbeatReply", "DigestAt"]},
  {key: "other", label: "Others", dash: [4, 4], names: []},
];
const FAMILY_OF = new Map(FAMILIES.flatMap(family => family.names.map(name => [name, family])));
const familyOf = name => FAMILY_OF.get(name) || FAMILIES[FAMILIES.length - 1];

const LESSON_MESSAGES_MAX = 600;
const POWER = new Set(["started", "crashed", "failed", "paused", "resumed"]);
const ROLES = new Set(["leader", "candidate", "follower"]);
const STATES = ["accepted", "chosen", "applied"];
const CHUNK = 128;
const SAME_TIME_APART = 1e-4;

/* Things sorted by `from`, found by window: each chunk knows how late its last one ends. */
class Timed {
  constructor(items, end) {
    this.items = items.sort((a, b) => a.from - b.from);
    this.lasts = [];
    items.forEach((item, i) => {
      const chunk = Math.floor(i / CHUNK), until = item.until ?? end;
      this.lasts[chunk] = Math.max(this.lasts[chunk] ?? -Infinity, until);
    });
    this.end = end;
  }

  each(from, until, visit) {
    for (let chunk = 0; chunk < this.lasts.length; chunk++) {
      const first = chunk * CHUNK;
      if (this.items[first].from > until) return;
      if (this.lasts[chunk] < from) continue;
      const stop = Math.min(first + CHUNK, this.items.length);
      for (let i = first; i < stop; i++) {
        const item = this.items[i];
        if (item.from > until) return;
        if ((item.until ?? this.end) >= from) visit(item);
      }
    }
  }
}

function median(numbers) {
  const sorted = numbers.slice().sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : 0;
}

function indexMessages(events, end) {
  const byId = new Map();
  for (const event of events) {
    if (event.kind === "sent") {
      byId.set(event.id, {is: "message", id: event.id, from: event.at_us, until: null,
        sender: event.sender, to: event.to, name: event.name, text: event.text,
        slot: event.slot ?? null, ballot: event.ballot ?? null, family: familyOf(event.name),
        ends: []});
    } else if (event.kind === "delivered" || event.kind === "lost") {
      const message = byId.get(event.id);
      if (!message) continue;
      message.ends.push({at: event.at_us, lost: event.kind === "lost" ? event.reason : null});
      message.until = event.at_us;
    }
  }
  const flights = [];
  for (const message of byId.values()) {
    const arrival = message.ends.find(each => each.lost === null);
    if (arrival && message.sender !== message.to) flights.push(arrival.at - message.from);
  }
  const messages = [...byId.values()], flight = median(flights) || 1000;
  // A message that was lost as it left is still drawn half a flight long.
  for (const message of messages) {
    if (message.until !== null && message.ends.some(each => each.lost !== null)) {
      message.until = Math.max(message.until, message.from + flight / 2);
    }
  }
  return {byId, flight, timed: new Timed(messages, end)};
}

/* What a node was, as spans: `downs` (crashed, failed, paused, absent) and `roles`. In single-decree
   Paxos nobody is a follower: unless the run is `roled`, a node is what it was started as. */
function indexNode(node, events, start, roled) {
  const downs = [], roles = [];
  let down = null, role = null;
  const close = (span, at) => { if (span) span.until = at; };
  const begin = (list, kind, event) => {
    const span = {is: "span", node, kind, from: event.at_us, until: null, text: event.text || ""};
    list.push(span);
    return span;
  };
  const first = events.find(event => POWER.has(event.name));
  const usual = event => roled ? "follower" : event.text || "up";
  if (first && first.name === "started") {
    down = begin(downs, "absent", {at_us: start});
  } else {
    role = begin(roles, usual({}), {at_us: start});
  }
  for (const event of events) {
    if (ROLES.has(event.name)) {
      close(role, event.at_us);
      role = begin(roles, event.name, event);
    } else if (event.name === "started" || event.name === "resumed") {
      const paused = down && down.kind === "paused";
      close(down, event.at_us);
      down = null;
      if (!paused || event.name === "started") {
        close(role, event.at_us);
        role = begin(roles, usual(event), {at_us: event.at_us});
      }
    } else if (POWER.has(event.name)) {
      close(down, event.at_us);
      down = begin(downs, event.name, event);
      if (event.name !== "paused") { close(role, event.at_us); role = null; }
    }
  }
  const lasting = span => span.until === null || span.until > span.from;
  return {downs: downs.filter(lasting), roles: roles.filter(lasting)};
}

function indexFaults(events) {
  const byId = new Map();
  for (const event of events) {
    if (event.kind === "fault_began") {
      byId.set(event.id, {is: "fault", id: event.id, name: event.name, text: event.text,
        nodes: event.nodes || [], cut: event.cut || [], from: event.at_us, until: null, row: 0});
    } else if (event.kind === "fault_ended" && byId.has(event.id)) {
      byId.get(event.id).until = event.at_us;
    }
  }
  const faults = [...byId.values()].sort((a, b) => a.from - b.from), free = [];
  for (const fault of faults) {
    let row = free.findIndex(until => until <= fault.from);
    if (row < 0) row = free.length < 4 ? free.length : 3;
    free[row] = fault.until ?? Infinity;
    fault.row = row;
  }
  return {faults, rows: free.length};
}

/* Per node: from when until when it could not send to, or hear from, which others. */
function indexCuts(faults, nodes) {
  const changes = faults.filter(fault => fault.cut.length).flatMap(fault => [
    {at: fault.from, by: 1, cut: fault.cut},
    ...(fault.until === null ? [] : [{at: fault.until, by: -1, cut: fault.cut}])]);
  changes.sort((a, b) => a.at - b.at);
  const counts = new Map(), open = new Map(), spans = [];
  const dead = (a, b) => (counts.get(`${a} ${b}`) || 0) > 0;
  changes.forEach((change, i) => {
    for (const [a, b] of change.cut) {
      counts.set(`${a} ${b}`, (counts.get(`${a} ${b}`) || 0) + change.by);
    }
    if (i + 1 < changes.length && changes[i + 1].at === change.at) return;
    for (const node of nodes) {
      const to = nodes.filter(other => other !== node && dead(node, other));
      const by = nodes.filter(other => other !== node && dead(other, node));
      const both = to.filter(other => by.includes(other));
      const text = [
        both.length ? `cut from ${both.join(" ")}` : "",
        to.length > both.length ? `not to ${to.filter(o => !both.includes(o)).join(" ")}` : "",
        by.length > both.length ? `not from ${by.filter(o => !both.includes(o)).join(" ")}` : "",
      ].filter(Boolean).join(", ");
      const was = open.get(node);
      if ((was ? was.text : "") === text) continue;
      if (was) was.until = change.at;
      open.delete(node);
      if (!text) continue;
      const span = {is: "cut", node, text, from: change.at, until: null};
      open.set(node, span);
      spans.push(span);
    }
  });
  return spans;
}

function indexRequests(events) {
  const byId = new Map(), busy = new Map();
  for (const event of events) {
    if (event.kind === "asked") {
      byId.set(event.id, {is: "request", id: event.id, client: event.client, node: event.node,
        key: event.key || "", text: event.text, from: event.at_us, until: null, outcome: "open",
        answer: "", row: 0});
    } else if (event.kind === "answered" && byId.has(event.id)) {
      const request = byId.get(event.id);
      Object.assign(request, {until: event.at_us, outcome: event.outcome, answer: event.text});
    }
  }
  for (const request of byId.values()) {
    const rows = busy.get(request.client) || [];
    busy.set(request.client, rows);
    let row = rows.findIndex(until => until <= request.from);
    if (row < 0) row = Math.min(rows.length, 2);
    rows[row] = request.until ?? Infinity;
    request.row = row;
  }
  return [...byId.values()];
}

const faultLabel = ({name, text}) => text.startsWith(name) ? text : `${name} ${text}`;

function interests(model) {
  const found = [];
  const add = (at, kind, text) => found.push({at, kind, text});
  for (const mark of model.happened) {
    const who = `node ${mark.node}`, why = mark.text ? `: ${mark.text}` : "";
    if (mark.name === "leader") add(mark.at, "leader", `${who} leads${why}`);
    if (mark.name === "crashed" || mark.name === "failed") {
      add(mark.at, "crash", `${who} ${mark.name}${why}`);
    }
    if (mark.name === "violation") add(mark.at, "violation", `violation on ${who}${why}`);
  }
  for (const fault of model.faults) {
    add(fault.from, "fault", `fault begins, ${faultLabel(fault)}`);
    if (fault.until !== null) add(fault.until, "fault", `fault ends, ${faultLabel(fault)}`);
  }
  return found.sort((a, b) => a.at - b.at);
}

/* Events of the same microsecond happened one after another too: keep them apart by far less. */
function order(events) {
  let before = null, at = null;
  for (const event of events) {
    before = event.at_us === at ? before + SAME_TIME_APART : event.at_us;
    at = event.at_us;
    event.at_us = before;
  }
}

/* How far a step reveals the picture: to just before the next one, for a note announces. */
function revealedBy(model, step) {
  return step + 1 < model.notes.length ? model.notes[step + 1].at - SAME_TIME_APART / 2 : model.end;
}

function indexRecording(recording) {
  const events = recording.events;
  order(events);
  const start = events.length ? events[0].at_us : 0;
  const end = Math.max(events.length ? events[events.length - 1].at_us : 0, start + 1000);
  const of = kind => events.filter(event => event.kind === kind);
  const model = {recording, start, end, nodes: recording.nodes, clients: recording.clients};
  model.happened = of("happened").map(event => ({is: "mark", at: event.at_us, node: event.node,
    name: event.name, text: event.text || ""}));
  model.marks = model.happened.filter(mark => !POWER.has(mark.name) && !ROLES.has(mark.name));
  model.messages = indexMessages(events, end);
  const happened = of("happened"), roled = happened.some(event => ROLES.has(event.name));
  model.lives = new Map(recording.nodes.map(node => [node,
    indexNode(node, happened.filter(event => event.node === node), start, roled)]));
  const {faults, rows} = indexFaults(events);
  Object.assign(model, {faults, faultRows: rows, cuts: indexCuts(faults, recording.nodes)});
  model.requests = new Timed(indexRequests(events), end);
  model.slots = new Map(recording.nodes.map(node => [node, of("slot")
    .filter(event => event.node === node)
    .map(event => ({is: "slot", at: event.at_us, node, slot: event.slot, state: event.state,
      ballot: event.ballot, value: event.value}))]));
  model.notes = of("note").map((event, i) => ({is: "note", number: i + 1, at: event.at_us,
    text: event.text, node: event.node ?? null}));
  model.interests = interests(model);
  model.times = events.map(event => event.at_us);
  model.lesson = model.notes.length > 0 && model.messages.byId.size <= LESSON_MESSAGES_MAX;
  return model;
}

/* The index of the first of the sorted `items` whose `at` is after `at`. */
function after(items, at) {
  let low = 0, high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].at <= at) low = middle + 1; else high = middle;
  }
  return low;
}
