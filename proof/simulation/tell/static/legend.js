/* The legend: each sign drawn by the same hand as in the picture. */

function sign(label, drawOn) {
  const row = document.createElement("div"), small = document.createElement("canvas");
  small.setAttribute("aria-hidden", "true");
  const on = new Paper(small);
  on.begin(46, 22);
  drawOn(on, on.palette);
  row.append(small, label);
  return row;
}

function familySign(family) {
  return sign(family.label, (on, palette) => {
    const piece = {x0: 2, y0: 16, x1: 44, y1: 6};
    on.line(piece.x0, piece.y0, piece.x1, piece.y1, palette[family.key], 1.5, family.dash);
    on.g.fillStyle = palette[family.key];
    on.g.beginPath();
    head(on.g, piece, 8);
    on.g.fill();
  });
}

function shadeSign(label, name, back, edge) {
  return sign(label, (on, palette) => {
    on.fill(0, 1, 46, 20, palette[name], 0.1);
    on.fill(0, 1, 46, 20, on.hatch(name, back), 0.4);
    if (edge) on.fill(0, 1, 2, 20, palette[name]);
  });
}

function drawLegend() {
  const used = new Set([...model.messages.byId.values()].map(message => message.family));
  const chip = (label, state) => sign(label, on =>
    drawChip(on, {x: 8, state, things: [{}], low: 12, high: 12, reach: 0, room: 0}, 5));
  const request = (label, style, dash) => sign(label, (on, palette) => {
    on.fill(2, 8, 42, 7, palette[style], style === "good" ? 0.85 : 0.25);
    on.g.strokeStyle = palette[style];
    on.g.setLineDash(dash);
    on.g.strokeRect(2.5, 8.5, 41, 6);
  });
  const rows = FAMILIES.filter(family => used.has(family)).map(familySign);
  rows.push(
    sign("Lost: ends in a cross", (on, palette) => {
      on.line(2, 19, 24, 11, palette.soft, 1.5);
      drawCrosses(on, [{x1: 25, y1: 11}], 0);
    }),
    sign("♛ Leader", (on, palette) => {
      on.fill(0, 1, 46, 20, palette["lead-soft"]);
      on.fill(0, 11 - BAR, 46, BAR * 2, palette.lead);
    }),
    sign("Candidate", (on, palette) => {
      on.fill(1, 11 - BAR, 44, BAR * 2, palette.phase1, 0.2);
      on.g.strokeStyle = palette.phase1;
      on.g.setLineDash([4, 3]);
      on.g.strokeRect(1, 11 - BAR, 44, BAR * 2);
    }),
    shadeSign("✖ Crashed or failed", "bad", false, true),
    shadeSign("❚❚ Paused", "warn", true, true),
    shadeSign("Under a fault (✂ links cut)", "warn", true, false),
    chip("Slot accepted: dashed", "accepted"), chip("Slot chosen: outlined", "chosen"),
    chip("Slot applied: filled", "applied"));
  if (model.clients.length) {
    rows.push(request("✓ Request answered", "good", []), request("– Refused", "warn", []),
      request("? Outcome unknown", "bad", [3, 2]));
  }
  find("legend").replaceChildren(...rows);
}
