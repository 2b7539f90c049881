/* What all drawing shares: colours of the style sheet, where the lanes are, things that can be hit. */

const AXIS_HEIGHT = 40, FAULT_ROW = 20, CLIENT_LANE = 34, CHIP_ROW = 14, BAR = 5, ABOVE = 40;
const FONT = "system-ui, sans-serif";

const PALETTE = ["page", "card", "line", "text", "soft", "good", "bad", "warn", "lead", "lead-soft",
  "phase1", "phase2", "refusal", "reads", "catchup", "heartbeat", "other"];

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(PALETTE.map(name => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/* Where each lane is, top to bottom: faults, clients, nodes. `y` is the middle of a lane's bar. */
function layOut(model, clientsShown) {
  const clients = new Map(), nodes = new Map();
  let y = AXIS_HEIGHT + model.faultRows * FAULT_ROW + (model.faultRows ? 6 : 0);
  const faultsTop = AXIS_HEIGHT + 2;
  if (clientsShown) {
    for (const client of model.clients) { clients.set(client, y + CLIENT_LANE / 2); y += CLIENT_LANE; }
  }
  const count = model.nodes.length, pitch = count <= 3 ? 136 : count <= 5 ? 108 : 94;
  const nodesTop = y + 6;
  for (const node of model.nodes) { nodes.set(node, y + ABOVE + 2); y += pitch; }
  return {faultsTop, clients, nodes, nodesTop, pitch, height: y + 24};
}

class Paper {
  constructor(canvas) {
    this.canvas = canvas;
    this.g = canvas.getContext("2d");
    this.palette = readPalette();
    this.hatches = new Map();
    this.boxes = [];
    this.lines = [];
    this.taken = [];
  }

  recolour() { this.palette = readPalette(); this.hatches.clear(); }

  /* Begin afresh with `width` by `height` CSS pixels. */
  begin(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== pixels[0]) this.canvas.width = pixels[0];
    if (this.canvas.height !== pixels[1]) this.canvas.height = pixels[1];
    this.canvas.style.height = `${height}px`;
    Object.assign(this, {width, height, boxes: [], lines: [], taken: []});
    this.g.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.g.clearRect(0, 0, width, height);
    this.g.textBaseline = "middle";
    this.g.lineCap = "butt";
  }

  /* A diagonal hatch of the palette's `name`, so that a shade is never told by colour alone. */
  hatch(name, back = false) {
    const key = `${name} ${back}`;
    if (!this.hatches.has(key)) {
      const tile = document.createElement("canvas");
      tile.width = tile.height = 8;
      const g = tile.getContext("2d");
      g.strokeStyle = this.palette[name];
      g.lineWidth = 1;
      g.beginPath();
      for (const by of [-8, 0, 8]) {
        if (back) { g.moveTo(by, 0); g.lineTo(by + 8, 8); } else { g.moveTo(by, 8); g.lineTo(by + 8, 0); }
      }
      g.stroke();
      this.hatches.set(key, this.g.createPattern(tile, "repeat"));
    }
    return this.hatches.get(key);
  }

  fill(x, y, width, height, style, alpha = 1) {
    this.g.globalAlpha = alpha;
    this.g.fillStyle = style;
    this.g.fillRect(x, y, width, height);
    this.g.globalAlpha = 1;
  }

  round(x, y, width, height, radius) {
    this.g.beginPath();
    this.g.roundRect(x, y, Math.max(width, 1), height, Math.min(radius, Math.max(width, 1) / 2));
  }

  line(x0, y0, x1, y1, style, width = 1, dash = []) {
    const g = this.g;
    g.strokeStyle = style;
    g.lineWidth = width;
    g.setLineDash(dash);
    g.beginPath();
    g.moveTo(x0, y0);
    g.lineTo(x1, y1);
    g.stroke();
    g.setLineDash([]);
  }

  /* Text that is left out, or cut short, if it is wider than `room`. Returns its width. */
  text(text, x, y, {size = 11, style = "text", align = "left", weight = 400, room = Infinity,
    halo = false} = {}) {
    const g = this.g;
    g.font = `${weight} ${size}px ${FONT}`;
    let shown = text.length > 200 ? text.slice(0, 200) : text, width = g.measureText(shown).width;
    if (width > room) {
      const fits = Math.floor(shown.length * (room - 8) / width);
      if (fits < 3) return 0;
      shown = `${shown.slice(0, fits).trimEnd()}…`;
      width = g.measureText(shown).width;
    }
    g.textAlign = align;
    if (halo) {
      g.lineWidth = 4;
      g.lineJoin = "round";
      g.strokeStyle = this.palette.card;
      g.strokeText(shown, x, y);
    }
    g.fillStyle = this.palette[style] || style;
    g.fillText(shown, x, y);
    return width;
  }

  /* Whether a label may go here; if so the place is taken. */
  claim(x, y, width, height) {
    for (const [a, b, c, d] of this.taken) {
      if (x < c && x + width > a && y < d && y + height > b) return false;
    }
    this.taken.push([x, y, x + width, y + height]);
    return true;
  }

  box(x, y, width, height, thing, weak = false) { this.boxes.push({x, y, width, height, thing, weak}); }

  /* What is under the pointer: small boxes before arrows, arrows before wide spans. */
  hit(x, y, reach = 6) {
    const inside = box => x >= box.x - 1 && x <= box.x + box.width + 1
      && y >= box.y - 1 && y <= box.y + box.height + 1;
    const small = this.boxes.findLast(box => !box.weak && inside(box));
    if (small) return small.thing;
    let best = null, nearest = reach;
    for (const each of this.lines) {
      const distance = toSegment(x, y, each);
      if (distance < nearest) { nearest = distance; best = each.thing; }
    }
    return best || this.boxes.findLast(box => box.weak && inside(box))?.thing || null;
  }
}

function toSegment(x, y, {x0, y0, x1, y1}) {
  const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  const share = length ? Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / length, 0), 1) : 0;
  return Math.hypot(x - x0 - share * dx, y - y0 - share * dy);
}
