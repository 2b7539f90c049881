/* The overview: the whole run in a strip, with a frame around what the picture shows. */

const MINI_NODE = 8, MINI_FAULTS = 10;

function drawMinimap(scene, paper) {
  const {model, view} = scene, {palette, g} = paper, line = view.timeline;
  const width = paper.canvas.clientWidth;
  const height = MINI_FAULTS + model.nodes.length * MINI_NODE + 10;
  paper.begin(width, height);
  const x = at => (line.to(at) - line.first) / (line.last - line.first) * width;
  const bar = (span, y, tall, style, alpha = 1) => {
    const x0 = x(span.from);
    paper.fill(x0, y, Math.max(x(span.until ?? model.end) - x0, 1.5), tall, style, alpha);
  };
  for (const fault of model.faults) bar(fault, 2, MINI_FAULTS - 3, palette.warn, 0.45);
  model.nodes.forEach((node, i) => {
    const y = MINI_FAULTS + 2 + i * MINI_NODE, {downs, roles} = model.lives.get(node);
    paper.fill(0, y + 3, width, 1, palette.line);
    for (const role of roles) {
      if (role.kind === "leader") bar(role, y + 1, MINI_NODE - 3, palette.lead);
      if (role.kind === "candidate") bar(role, y + 2.5, 2, palette.phase1);
    }
    for (const down of downs) {
      if (down.kind === "absent") continue;
      const name = down.kind === "paused" ? "warn" : "bad";
      bar(down, y + 1, MINI_NODE - 3, palette[name], 0.25);
      bar(down, y + 1, MINI_NODE - 3, paper.hatch(name, name === "warn"));
    }
  });
  for (const mark of model.marks) {
    if (mark.name === "violation") paper.fill(x(mark.at) - 1, 0, 2.5, height, palette.bad);
  }
  for (const note of model.notes) paper.fill(x(note.at) - 0.75, height - 5, 1.5, 5, palette.lead);
  const unit = width / (line.last - line.first);
  const x0 = Math.max((view.a - line.first) * unit, 0), x1 = Math.min((view.b - line.first) * unit, width);
  paper.fill(0, 0, x0, height, palette.page, 0.6);
  paper.fill(x1, 0, width - x1, height, palette.page, 0.6);
  g.strokeStyle = palette.text;
  g.lineWidth = 1.5;
  paper.round(x0 + 0.75, 0.75, Math.max(x1 - x0 - 1.5, 5), height - 1.5, 4);
  g.stroke();
  if (scene.horizon < model.end) paper.fill(x(scene.horizon), 0, 1.5, height, palette.lead);
}

/* Press to centre the picture there, drag to move it. */
function listenMinimap(canvas, view, moved) {
  const centre = event => {
    const box = canvas.getBoundingClientRect(), line = view().timeline;
    const middle = line.first + (event.clientX - box.left) / box.width * (line.last - line.first);
    const half = (view().b - view().a) / 2;
    view().show(middle - half, middle + half);
    moved();
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    centre(event);
  });
  canvas.addEventListener("pointermove", event => { if (event.buttons & 1) centre(event); });
}
