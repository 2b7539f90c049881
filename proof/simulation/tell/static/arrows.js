/* Messages: arrows from lane to lane along time; a lost one ends in a cross midway. */

const ARROWS_MAX = 5000, HEADS_MAX = 1500, DASHES_MAX = 800, LABELS_MAX = 220;

/* The messages in the window that no filter hides; `left_out` says how many one does. */
function messagesInView({model, view, state, horizon}) {
  const shown = [];
  let hidden = 0;
  model.messages.timed.each(view.from, Math.min(view.until, horizon), message => {
    if (state.hidden.has(message.name)) hidden += 1; else shown.push(message);
  });
  return {shown, hidden};
}

/* The drawn pieces of a message: one per copy that arrived or was lost, or one still on its way. */
function pieces(scene, message) {
  const {view, lanes, model, horizon} = scene;
  const from = lanes.nodes.get(message.sender), to = lanes.nodes.get(message.to);
  if (from === undefined || to === undefined) return [];
  const down = to > from, self = to === from;
  const y0 = from + (down ? BAR : -BAR) - (self ? 5 : 0), y1 = self ? y0 : to + (down ? -BAR : BAR);
  const x0 = view.x(message.from);
  const ends = message.ends.length ? message.ends : [{at: model.end, lost: null, open: true}];
  return ends.map((end, copy) => {
    let at = end.at, y = y1;
    if (end.lost !== null) {
      at = Math.max(at, message.from + model.messages.flight / 2);
      y = y0 + (y1 - y0) * lostShare(scene, message);
    }
    const x = view.x(at), piece = {x0, y0, x1: x, y1: y, copy, lost: end.lost !== null,
      open: Boolean(end.open), thing: message};
    if (at <= horizon) return piece;
    const share = Math.max((view.x(horizon) - x0) / (x - x0 || 1), 0);
    return Object.assign(piece, {x1: x0 + share * (x - x0), y1: y0 + share * (y - y0), open: true});
  });
}

/* How far a lost message is drawn: about midway, and never onto the lane of a third node. */
function lostShare({model}, {sender, to}) {
  const apart = Math.abs(model.nodes.indexOf(sender) - model.nodes.indexOf(to)) || 1;
  return (Math.floor(apart / 2) + 0.5) / apart;
}

function drawArrows(scene) {
  const {paper, state} = scene, {shown, hidden} = messagesInView(scene);
  const stride = Math.ceil(shown.length / ARROWS_MAX);
  const drawn = stride > 1 ? shown.filter((_, i) => i % stride === 0) : shown;
  const byFamily = new Map(FAMILIES.map(family => [family, []])), crosses = [];
  for (const message of drawn) {
    const list = byFamily.get(message.family);
    for (const piece of pieces(scene, message)) {
      list.push(piece);
      paper.lines.push(piece);
      if (piece.lost && !piece.open) crosses.push(piece);
    }
  }
  const count = drawn.length;
  const alpha = count < 200 ? 0.95 : count < 1000 ? 0.7 : count < 2500 ? 0.35 : 0.16;
  for (const [family, list] of byFamily) {
    if (list.length) strokeFamily(paper, family, list, count, alpha);
  }
  drawCrosses(paper, crosses, count);
  for (const thing of [state.pinned, state.hover]) {
    if (thing && thing.is === "message") emphasise(scene, thing);
  }
  return {count: shown.length, hidden, stride, drawn};
}

function strokeFamily(paper, family, list, count, alpha) {
  const {g, palette} = paper;
  g.globalAlpha = alpha;
  g.strokeStyle = g.fillStyle = palette[family.key];
  g.lineWidth = count < 400 ? 1.5 : 1;
  g.setLineDash(count <= DASHES_MAX ? family.dash : []);
  g.beginPath();
  for (const {x0, y0, x1, y1} of list) { g.moveTo(x0, y0); g.lineTo(x1, y1); }
  g.stroke();
  g.setLineDash([]);
  if (count <= HEADS_MAX) {
    g.beginPath();
    for (const piece of list) {
      if (!piece.lost && !piece.open) head(g, piece, count < 400 ? 8 : 5);
      else if (piece.open) { g.moveTo(piece.x1 + 3, piece.y1); g.arc(piece.x1, piece.y1, 3, 0, 7); }
    }
    g.fill();
  }
  g.globalAlpha = 1;
}

function head(g, {x0, y0, x1, y1}, size) {
  const angle = Math.atan2(y1 - y0, x1 - x0), spread = 0.38;
  g.moveTo(x1, y1);
  g.lineTo(x1 - size * Math.cos(angle - spread), y1 - size * Math.sin(angle - spread));
  g.lineTo(x1 - size * Math.cos(angle + spread), y1 - size * Math.sin(angle + spread));
  g.closePath();
}

function drawCrosses(paper, crosses, count) {
  const {g, palette} = paper, size = count < 400 ? 5 : count < 1500 ? 3.5 : 2;
  g.strokeStyle = palette.bad;
  g.lineWidth = count < 400 ? 2 : 1.2;
  g.beginPath();
  for (const {x1, y1} of crosses) {
    g.moveTo(x1 - size, y1 - size); g.lineTo(x1 + size, y1 + size);
    g.moveTo(x1 - size, y1 + size); g.lineTo(x1 + size, y1 - size);
  }
  g.stroke();
}

function emphasise(scene, message) {
  const {paper} = scene, {g, palette} = paper, colour = palette[message.family.key];
  for (const piece of pieces(scene, message)) {
    paper.line(piece.x0, piece.y0, piece.x1, piece.y1, palette.card, 7);
    paper.line(piece.x0, piece.y0, piece.x1, piece.y1, colour, 3);
    g.fillStyle = colour;
    if (!piece.lost && !piece.open) { g.beginPath(); head(g, piece, 11); g.fill(); }
    if (piece.lost && !piece.open) drawCrosses(paper, [piece], 0);
  }
}

function arrowLabel(message) {
  const ballot = message.ballot !== null && (message.slot === null || message.family.key === "phase1")
    && message.family.key !== "heartbeat" ? ` ${message.ballot}` : "";
  return `${message.name}${ballot}${message.slot !== null ? ` · slot ${message.slot}` : ""}`;
}

/* Names near the arrows' ends, where the arrows of one broadcast have parted; only where free. */
function labelArrows(scene, messages) {
  if (messages.length > LABELS_MAX) return;
  const {paper, state} = scene, {g, palette} = paper;
  const first = messages.filter(message => message === state.hover || message === state.pinned);
  for (const message of [...first, ...messages]) {
    const [piece] = pieces(scene, message);
    if (!piece) continue;
    const label = arrowLabel(message);
    g.font = `500 10.5px ${FONT}`;
    const width = g.measureText(label).width, share = piece.lost ? 0.5 : 0.62;
    const middle = piece.x0 + (piece.x1 - piece.x0) * share;
    const x = middle + width + 5 > paper.width ? middle - width - 6 : middle + 5;
    const y = piece.y0 + (piece.y1 - piece.y0) * share;
    if (x < 0 || x + width > paper.width || Math.abs(piece.y1 - piece.y0) < 24) continue;
    if (!paper.claim(x - 1, y - 7, width + 2, 14)) continue;
    paper.text(label, x, y, {size: 10.5, weight: 500, style: palette[message.family.key], halo: true});
  }
}
