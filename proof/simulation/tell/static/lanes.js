/* The lanes: axis, faults, clients' requests, the nodes' roles, outages, slots and marks.
   Every function takes the scene: {model, paper, view, lanes, state, horizon, labels}; nothing
   later than `horizon` is drawn. `labels` collects what must be written above the arrows. */

function spanX(scene, span) {
  const until = Math.min(span.until ?? scene.model.end, scene.horizon);
  const x0 = Math.max(scene.view.x(span.from), -20);
  return [x0, Math.min(scene.view.x(until), scene.paper.width + 20)];
}

function visible(scene, span) {
  return span.from <= Math.min(scene.view.until, scene.horizon)
    && (span.until ?? scene.model.end) >= scene.view.from;
}

/* Write this once the arrows are drawn, and keep other labels off it. */
function write(scene, text, x, y, how) {
  scene.labels.push(() => {
    const width = scene.paper.text(text, x, y, {...how, halo: true});
    if (width) scene.paper.claim(x, y - 7, width, 14);
  });
}

function drawAxis({paper, view, model, lanes}) {
  const {palette} = paper;
  for (const gap of view.timeline.breaks) {
    const x0 = view.x(gap.from), x1 = view.x(gap.until);
    if (x1 < 0 || x0 > paper.width) continue;
    paper.fill(x0, AXIS_HEIGHT, x1 - x0, paper.height, palette.page, 0.75);
    const label = `⋯ ${shownShort(gap.until - gap.from)} ⋯`;
    if (x1 - x0 > 62) {
      paper.text(label, (x0 + x1) / 2, lanes.height - 10, {size: 10, style: "soft", align: "center"});
    }
  }
  for (const tick of ticks(view, 96)) {
    paper.line(tick.x, AXIS_HEIGHT - 5, tick.x, paper.height, palette.line);
    paper.text(tick.label, tick.x, AXIS_HEIGHT - 12, {style: "soft", align: "center"});
  }
  paper.line(0, AXIS_HEIGHT, paper.width, AXIS_HEIGHT, palette.line);
  for (const at of [model.start, model.end]) {
    const x = view.x(at);
    paper.line(x, AXIS_HEIGHT, x, paper.height, palette.soft, 1, [1, 3]);
  }
}

function drawFaults(scene) {
  const {paper, model, lanes} = scene, {palette} = paper;
  for (const fault of model.faults) {
    if (!visible(scene, fault)) continue;
    const [x0, x1] = spanX(scene, fault), y = lanes.faultsTop + fault.row * FAULT_ROW;
    const width = Math.max(x1 - x0, 3);
    paper.round(x0, y, width, FAULT_ROW - 4, 4);
    paper.g.save();
    paper.g.clip();
    paper.fill(x0, y, width, FAULT_ROW, palette.warn, 0.16);
    paper.fill(x0, y, 3, FAULT_ROW, palette.warn);
    paper.g.restore();
    const left = Math.max(x0, 0) + 8;
    paper.text(faultLabel(fault), left, y + FAULT_ROW / 2 - 1.5,
      {room: x1 - left - 4, weight: 500});
    paper.box(x0, y, width, FAULT_ROW - 4, fault);
    for (const node of fault.nodes) shadeNode(scene, node, x0, width);
  }
}

function shadeNode({paper, lanes}, node, x, width) {
  const y = lanes.nodes.get(node);
  if (y === undefined) return;
  paper.fill(x, y - ABOVE, width, lanes.pitch - 14, paper.palette.warn, 0.07);
  paper.fill(x, y - ABOVE, width, lanes.pitch - 14, paper.hatch("warn", true), 0.14);
}

function drawCuts(scene) {
  const {paper, model, lanes} = scene;
  for (const cut of model.cuts) {
    if (!visible(scene, cut)) continue;
    const [x0, x1] = spanX(scene, cut), y = lanes.nodes.get(cut.node) - ABOVE;
    paper.line(x0, y, x1, y, paper.palette.warn, 1.5, [3, 3]);
    const left = Math.max(x0, 0) + 4, room = x1 - left - 6;
    if (room > 70) {
      write(scene, `✂ ${cut.text}`, left, y + 8, {size: 10, style: "warn", room});
    }
    paper.box(x0, y - 2, Math.max(x1 - x0, 2), 16, cut, true);
  }
}

function drawNodes(scene) {
  const {paper, view, model, lanes, horizon} = scene, {palette} = paper;
  const last = Math.min(view.x(Math.min(model.end, horizon)), paper.width);
  for (const node of model.nodes) {
    const y = lanes.nodes.get(node), {downs, roles} = model.lives.get(node);
    paper.line(Math.max(view.x(model.start), 0), y, paper.width, y, palette.line, 1, [2, 4]);
    for (const role of roles) if (visible(scene, role)) drawRole(scene, role, y);
    for (const down of downs) if (visible(scene, down)) drawDown(scene, down, y);
    if (horizon < model.end) paper.line(last, y - 8, last, y + 8, palette.soft, 1);
  }
}

function drawRole(scene, role, y) {
  const {paper} = scene, {palette, g} = paper, [x0, x1] = spanX(scene, role);
  const left = Math.max(x0, 0) + 6, said = role.text.startsWith("leads");
  const label = said ? role.text : role.text ? `${role.kind} · ${role.text}` : role.kind;
  if (role.kind === "leader") {
    paper.fill(x0, y - 13, x1 - x0, 26, palette["lead-soft"], 0.9);
    paper.fill(x0, y - BAR, x1 - x0, BAR * 2, palette.lead);
    paper.fill(x0, y - 13, 2, 26, palette.lead);
    if (x1 - left > 30) {
      write(scene, `♛ ${label}`, left, y - 20, {style: "lead", weight: 600, room: x1 - left});
    }
  } else if (role.kind === "candidate") {
    g.strokeStyle = palette.phase1;
    g.lineWidth = 1.5;
    g.setLineDash([4, 3]);
    g.strokeRect(x0, y - BAR, x1 - x0, BAR * 2);
    g.setLineDash([]);
    paper.fill(x0, y - BAR, x1 - x0, BAR * 2, palette.phase1, 0.2);
    if (x1 - left > 30) {
      write(scene, label, left, y - 16, {style: "phase1", weight: 600, size: 10, room: x1 - left});
    }
  } else {
    paper.fill(x0, y - 1.5, x1 - x0, 3, palette.soft, 0.7);
  }
  paper.box(x0, y - 13, x1 - x0, 26, role, true);
}

function drawDown(scene, down, y) {
  const {paper, lanes} = scene, {palette} = paper, [x0, x1] = spanX(scene, down);
  const width = Math.max(x1 - x0, 2), top = y - ABOVE, height = lanes.pitch - 14;
  if (down.kind === "absent") {
    paper.fill(x0, y - 6, width, 12, palette.card);
    return;
  }
  const paused = down.kind === "paused", name = paused ? "warn" : "bad";
  paper.fill(x0, top, width, height, palette.card, 0.82);
  paper.fill(x0, top, width, height, palette[name], 0.1);
  paper.fill(x0, top, width, height, paper.hatch(name, paused), 0.32);
  paper.fill(x0, top, 2, height, palette[name]);
  const left = Math.max(x0, 0) + 8, sign = paused ? "❚❚" : "✖";
  const label = `${sign} ${down.kind}${down.text ? ` · ${down.text}` : ""}`;
  if (x1 - left > 24) write(scene, label, left, y, {style: name, weight: 600, room: x1 - left - 4});
  paper.box(x0, top, width, height, down, true);
}

const OUTCOMES = {
  ok: {style: "good", sign: "✓"}, refused: {style: "warn", sign: "–"},
  unknown: {style: "bad", sign: "?"}, open: {style: "soft", sign: "…"},
};

function drawRequests(scene) {
  const {paper, view, model, lanes, state, horizon} = scene, {palette, g} = paper;
  if (!state.clients) return;
  for (const y of lanes.clients.values()) paper.line(0, y + 15, paper.width, y + 15, palette.line);
  const until = Math.min(view.until, horizon);
  let shown = 0;
  model.requests.each(view.from, until, () => { shown += 1; });
  model.requests.each(view.from, until, request => {
    const lane = lanes.clients.get(request.client);
    if (lane === undefined) return;
    const over = request.until !== null && request.until <= horizon;
    const {style, sign} = OUTCOMES[over ? request.outcome : "open"] || OUTCOMES.open;
    const [x0, x1] = spanX(scene, request), width = Math.max(x1 - x0, 2);
    const y = lane - 13 + request.row * 9;
    paper.fill(x0, y, width, 7, palette[style], style === "good" ? 0.85 : 0.25);
    if (width > 3 && style !== "good") {
      g.strokeStyle = palette[style];
      g.lineWidth = 1;
      g.setLineDash(style === "bad" ? [3, 2] : []);
      g.strokeRect(x0 + 0.5, y + 0.5, width - 1, 6);
      g.setLineDash([]);
    }
    paper.box(x0, y - 1, width, 9, request);
    if (shown <= 60) drawRequestLinks(scene, request, x0, x1, y, over);
    const room = Math.max(width, shown <= 30 ? 150 : 0);
    if (room > 24 && request.row === 0) {
      g.font = `400 10px ${FONT}`;
      const label = `${sign} ${request.text}`;
      const text = Math.min(g.measureText(label).width, room);
      const left = Math.max(x0, 2);
      if (paper.claim(left, lane - 2, text, 12)) {
        paper.text(label, left, lane + 5, {size: 10, style, room, halo: true});
      }
    }
  });
}

function drawRequestLinks({paper, lanes}, request, x0, x1, y, over) {
  const node = lanes.nodes.get(request.node);
  if (node === undefined) return;
  paper.g.globalAlpha = 0.55;
  paper.line(x0, y + 7, x0, node - BAR, paper.palette.soft, 1, [1, 3]);
  if (over && request.outcome === "ok") {
    paper.line(x1, y + 7, x1, node - BAR, paper.palette.good, 1, [1, 3]);
  }
  paper.g.globalAlpha = 1;
}

/* Chips of one node and state: those that would overlap become one, with a range of slots. */
function drawChips(scene, node, state, y) {
  const {paper, view, model, horizon} = scene, slots = model.slots.get(node);
  const until = Math.min(view.until, horizon);
  let chip = null;
  const flush = () => { if (chip) drawChip(paper, chip, y); };
  for (let i = after(slots, view.from - 1); i < slots.length && slots[i].at <= until; i++) {
    const slot = slots[i];
    if (slot.state !== state) continue;
    const x = chipX(scene, slot, view.x(slot.at));
    if (chip && x < chip.x + chip.room) {
      chip.things.push(slot);
      chip.low = Math.min(chip.low, slot.slot);
      chip.high = Math.max(chip.high, slot.slot);
      chip.reach = x - chip.x;
      chip.room = chipWidth(chip) + (chip.things.length > 6 ? 60 : 4);
    } else {
      flush();
      chip = {x, node, state, is: "chips", things: [slot], low: slot.slot, high: slot.slot, reach: 0,
        valued: model.lesson};
      chip.room = chipWidth(chip) + 4;
    }
  }
  flush();
}

/* A slot's value in a few characters: of a batch, what it holds. */
function shownValue(value, most = Infinity) {
  const inner = value === "" ? "no-op" : value.replace(/^batch of \d+ commands?: /, "");
  return inner.length > most ? `${inner.slice(0, most - 1)}…` : inner;
}

/* The slot or slots; in a lesson also a short value. */
function chipLabel({low, high, things, valued}) {
  if (low !== high) return `${low}–${high}`;
  return valued ? `${low} = ${shownValue(things[things.length - 1].value, 12)}` : `${low}`;
}

/* Where a slot's chip begins: where it happened, unless its value would be cut off there. */
function chipX({paper, model}, slot, x) {
  const alone = {low: slot.slot, high: slot.slot, things: [slot], valued: model.lesson};
  return model.lesson ? Math.min(x, paper.width - chipWidth(alone) - 2) : x;
}

const chipWidth = chip => chipLabel(chip).length * 6.4 + 9;

function drawChip(paper, chip, y) {
  const {g, palette} = paper, height = CHIP_ROW - 2, many = chip.things.length > 6;
  const filled = chip.state === "applied" && !many;
  const width = Math.max(chipWidth(chip), Math.min(chip.reach, chip.room - 3));
  const name = {accepted: "soft", chosen: "lead", applied: "good"}[chip.state];
  paper.round(chip.x, y, width, height, chip.state === "accepted" ? 2 : 6);
  g.fillStyle = palette.card;
  g.fill();
  g.fillStyle = palette[name];
  g.globalAlpha = filled ? 1 : chip.state === "accepted" ? 0 : chip.state === "chosen" ? 0.1 : 0.22;
  g.fill();
  g.globalAlpha = many ? 0.5 : 1;
  g.strokeStyle = palette[name];
  g.lineWidth = 1;
  if (chip.state === "accepted") g.setLineDash([2, 2]);
  g.stroke();
  g.globalAlpha = 1;
  g.setLineDash([]);
  const style = filled ? palette.card : chip.state === "accepted" ? palette.text : palette[name];
  paper.text(chipLabel(chip), chip.x + width / 2, y + height / 2 + 0.5,
    {size: 9.5, weight: 600, align: "center", style});
  paper.claim(chip.x, y, width, height);
  paper.box(chip.x, y, width, height, chip.things.length === 1 ? chip.things[0] : chip);
}

function drawSlots(scene) {
  for (const node of scene.model.nodes) {
    const y = scene.lanes.nodes.get(node) + 12;
    STATES.forEach((state, row) => drawChips(scene, node, state, y + row * CHIP_ROW));
  }
}

function drawMarks(scene) {
  const {paper, view, model, lanes, horizon} = scene, {palette, g} = paper;
  const from = view.from, until = Math.min(view.until, horizon);
  const spare = model.marks.length < 400;
  for (let i = after(model.marks, from - 1); i < model.marks.length; i++) {
    const mark = model.marks[i];
    if (mark.at > until) break;
    const y = lanes.nodes.get(mark.node);
    if (y === undefined) continue;
    const x = view.x(mark.at), bad = mark.name === "violation", size = bad ? 8 : 4.5;
    g.fillStyle = palette[bad ? "bad" : "other"];
    g.beginPath();
    g.moveTo(x, y - size); g.lineTo(x + size, y); g.lineTo(x, y + size); g.lineTo(x - size, y);
    g.closePath();
    g.fill();
    paper.box(x - size, y - size, size * 2, size * 2, mark);
    if (bad) paper.line(x, AXIS_HEIGHT, x, paper.height, palette.bad, 1.5);
    const label = bad ? `! ${mark.name}` : mark.name;
    g.font = `${bad ? 700 : 500} 10px ${FONT}`;
    const width = Math.min(g.measureText(label).width, 140);
    const left = x + size + 2 + width > paper.width ? x - size - 2 - width : x + size + 2;
    if ((bad || spare || view.until - from < 5e5) && paper.claim(left, y - 13, width, 11)) {
      paper.text(label, left, y - 8,
        {size: 10, style: bad ? "bad" : "other", weight: bad ? 700 : 500, room: 140, halo: true});
    }
  }
}

function drawNotes(scene) {
  const {paper, view, model, state} = scene, {palette, g} = paper;
  const current = model.notes[state.step], others = model.notes.filter(note => note !== current);
  for (const note of current ? [current, ...others] : others) {
    const x = view.x(note.at);
    if (x < -10 || x > paper.width + 10) continue;
    const now = note === current;
    paper.line(x, AXIS_HEIGHT - 2, x, AXIS_HEIGHT + 4, palette.lead, 1.5);
    g.font = `600 10px ${FONT}`;
    const width = Math.max(g.measureText(`${note.number}`).width + 8, 16);
    if (!paper.claim(x - width / 2, 1, width, 15)) continue;
    paper.round(x - width / 2, 2, width, 15, 8);
    g.fillStyle = now ? palette.lead : palette["lead-soft"];
    g.fill();
    paper.text(`${note.number}`, x, 10, {size: 10, weight: 600, align: "center",
      style: now ? palette.card : palette.lead});
    paper.box(x - width / 2, 2, width, 15, note);
  }
}
