/* The page: one state, one function that draws it, and what people do to it. */

const recording = JSON.parse(find("recording").textContent);
const model = indexRecording(recording);
const canvas = find("canvas"), paper = new Paper(canvas), miniPaper = new Paper(find("minimap"));
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const state = {
  hidden: new Set(), clients: true, step: -1, stepwise: model.lesson, hover: null, pinned: null,
  cursor: null, found: "", horizon: model.lesson ? model.start : model.end,
};
let view = new View(new Timeline(model));
let lanes = layOut(model, true), shown = {count: 0, hidden: 0, stride: 1};
let asked = false, moving = null, logAtLast = null;

function draw() {
  asked = false;
  const width = canvas.clientWidth, scene = {model, paper, view, lanes, state, horizon: state.horizon,
    labels: []};
  view.width = width;
  paper.begin(width, lanes.height);
  paper.fill(0, 0, width, lanes.height, paper.palette.card);
  drawAxis(scene);
  drawFaults(scene);
  drawNodes(scene);
  drawCuts(scene);
  drawNotes(scene);
  drawRequests(scene);
  shown = drawArrows(scene);
  drawSlots(scene);
  for (const label of scene.labels) label();
  drawMarks(scene);
  labelArrows(scene, shown.drawn);
  drawCursor(scene);
  drawMinimap(scene, miniPaper);
  showRoles(model, cursorTime());
  const at = cursorTime();
  if (at !== logAtLast) { logAtLast = at; showLog(model, at); }
  showStatus();
}

function drawCursor({paper: on, view: through}) {
  const {palette} = on;
  if (state.horizon < model.end) {
    const x = through.x(state.horizon);
    on.line(x, AXIS_HEIGHT, x, on.height, palette.lead, 1.5);
  }
  if (state.cursor === null) return;
  const x = through.x(state.cursor);
  on.line(x, AXIS_HEIGHT, x, on.height, palette.soft, 1, [2, 3]);
  const label = shownTime(state.cursor), right = x > on.width - 90;
  on.text(label, right ? x - 5 : x + 5, on.height - 10,
    {style: "soft", align: right ? "right" : "left", halo: true});
}

function cursorTime() {
  const at = state.cursor ?? (state.stepwise ? state.horizon : view.until);
  return Math.min(Math.max(at, model.start), state.horizon);
}

function showStatus() {
  const from = Math.max(view.from, model.start), until = Math.min(view.until, model.end);
  const parts = [shownRange(from, until, model.end >= 2e6),
    `${shown.count.toLocaleString("en")} messages`];
  if (shown.hidden) parts.push(`${shown.hidden.toLocaleString("en")} more hidden by the filter`);
  if (shown.stride > 1) parts.push(`1 in ${shown.stride} drawn: zoom in to see all`);
  const text = parts.join(" · ");
  if (find("status").textContent !== text) find("status").textContent = text;
  if (find("found").textContent !== state.found) find("found").textContent = state.found;
}

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(draw);
}

function relay() {
  lanes = layOut(model, state.clients);
  fillGutter(model, lanes, state.clients);
  find("gutter").style.height = `${lanes.height}px`;
  redraw();
}

function say(text) { find("spoken").textContent = text; }

/* -- moving ------------------------------------------------------------------------------- */

/* Move the window (in units) and the horizon there, in a short while unless motion is unwanted. */
function glide(a, b, horizon) {
  const from = {a: view.a, b: view.b, horizon: state.horizon}, began = performance.now();
  const length = calm.matches ? 0 : 450;
  if (moving) cancelAnimationFrame(moving);
  const frame = now => {
    const share = length ? Math.min(Math.max((now - began) / length, 0), 1) : 1;
    const eased = 1 - (1 - share) ** 3, mix = (x, y) => x + (y - x) * eased;
    view.show(mix(from.a, a), mix(from.b, b));
    const unit = mix(view.timeline.to(from.horizon), view.timeline.to(horizon));
    state.horizon = share < 1 ? view.timeline.back(unit) : horizon;
    moving = share < 1 ? requestAnimationFrame(frame) : null;
    redraw();
  };
  frame(began);
}

function change(act) {
  if (moving) { cancelAnimationFrame(moving); moving = null; settle(); }
  act();
  redraw();
}

function settle() {
  state.horizon = state.stepwise && state.step >= 0 ? revealedBy(model, state.step) : model.end;
}

function goToStep(step) {
  if (!model.notes.length) return;
  state.step = Math.min(Math.max(step, 0), model.notes.length - 1);
  state.cursor = null;
  const note = model.notes[state.step], line = view.timeline;
  const revealed = revealedBy(model, state.step), begin = line.to(note.at), end = line.to(revealed);
  const whole = line.last - line.first;
  const least = Math.min(model.lesson ? Math.max(whole / 3, 12 * model.messages.flight) : whole / 20, whole);
  const length = Math.max((end - begin) * 1.4, least);
  showStep(state.step, model.notes.length);
  say(`${note.number}. ${note.text}`);
  if (state.stepwise) glide(end - length * 0.85, end + length * 0.15, revealed);
  else glide(begin - length * 0.3, begin + length * 0.7, model.end);
}

function goToInterest(direction) {
  if (model.lesson) { goToStep(state.step + direction); return; }
  const kind = find("jump-kind").value;
  const list = model.interests.filter(each => kind === "all" || each.kind === kind);
  const {a, b, timeline} = view, seen = state.cursor >= view.from && state.cursor <= view.until;
  const whole = b - a > (timeline.last - timeline.first) * 0.9;
  const now = state.cursor !== null && seen ? state.cursor
    : whole && direction > 0 ? model.start - 2 : view.at(view.width / 2);
  const next = direction > 0 ? list.find(each => each.at > now + 1)
    : list.findLast(each => each.at < now - 1);
  if (!next) { say(state.found = "No further such event"); redraw(); return; }
  state.cursor = next.at;
  state.found = `${shownTime(next.at)}: ${next.text}`;
  const length = Math.min(view.b - view.a, Math.max((view.timeline.last - view.timeline.first) / 40, 100));
  const unit = view.timeline.to(next.at);
  say(state.found);
  glide(unit - length / 2, unit + length / 2, state.horizon);
}

/* Pin the next or previous message that is drawn. */
function goToMessage(direction) {
  const list = messagesInView({model, view, state, horizon: state.horizon}).shown;
  if (!list.length) return;
  const at = list.indexOf(state.pinned);
  const next = at < 0 ? (direction > 0 ? 0 : list.length - 1) : at + direction;
  state.pinned = list[Math.min(Math.max(next, 0), list.length - 1)];
  const box = canvas.getBoundingClientRect(), spot = whereIs(state.pinned);
  showTip(state.pinned, model, box.left + Math.min(Math.max(spot.x, 0), box.width), box.top + spot.y);
  const {title, text, facts} = described(state.pinned, model);
  say([title, text, ...facts.map(([name, value]) => value === null ? "" : `${name} ${value}`)].join(", "));
  redraw();
}

/* The middle of a message's arrow, in pixels of the canvas. */
function whereIs(message) {
  const [piece] = pieces({model, view, lanes, horizon: state.horizon}, message);
  return piece ? {x: (piece.x0 + piece.x1) / 2, y: (piece.y0 + piece.y1) / 2} : {x: 0, y: 0};
}

function setStepwise(on) {
  state.stepwise = find("reveal").checked = on;
  settle();
  redraw();
}

function setTimeline(shortened) {
  const from = view.from, until = view.until;
  view = new View(shortened ? new ShortenedTimeline(model) : new Timeline(model));
  view.width = canvas.clientWidth;
  view.show(view.timeline.to(from), view.timeline.to(until));
  redraw();
}

function showWhole() {
  state.cursor = null;
  glide(view.timeline.first - view.margin, view.timeline.last + view.margin, state.horizon);
}

function letGo() {
  state.pinned = state.hover = state.cursor = null;
  showTip(null);
  state.found = "";
  find("filter").open = false;
  redraw();
}

/* -- pointer and keys --------------------------------------------------------------------- */

const pointers = new Map();
let dragged = 0;

function pointed(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  state.cursor = Math.min(view.at(x), state.horizon);
  const thing = paper.hit(x, y);
  state.hover = thing;
  canvas.style.cursor = thing ? "pointer" : "grab";
  showTip(thing || state.pinned, model, event.clientX, event.clientY);
  redraw();
}

canvas.addEventListener("pointerdown", event => {
  if (pointers.size === 0) dragged = 0;
  pointers.set(event.pointerId, event);
  canvas.setPointerCapture(event.pointerId);
});

canvas.addEventListener("pointermove", event => {
  const was = pointers.get(event.pointerId);
  if (!was) { pointed(event); return; }
  pointers.set(event.pointerId, event);
  const dx = event.clientX - was.clientX;
  if (pointers.size === 1) {
    dragged += Math.abs(dx);
    if (dragged < 4) return;
    canvas.style.cursor = "grabbing";
    change(() => view.pan(-dx / view.width));
  } else {
    const other = [...pointers.values()].find(each => each.pointerId !== event.pointerId);
    const before = Math.abs(was.clientX - other.clientX), now = Math.abs(event.clientX - other.clientX);
    const middle = (event.clientX + other.clientX) / 2 - canvas.getBoundingClientRect().left;
    dragged += 10;
    change(() => view.zoom(Math.max(before, 10) / Math.max(now, 10), middle));
  }
});

for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, event => {
    pointers.delete(event.pointerId);
    if (name === "pointercancel" || dragged >= 4) return;
    pointed(event);
    if (state.hover && state.hover.is === "note") goToStep(state.hover.number - 1);
    state.pinned = state.hover && state.hover.is === "message" ? state.hover : null;
  });
}

canvas.addEventListener("pointerleave", () => {
  state.hover = state.cursor = null;
  if (!state.pinned) showTip(null);
  redraw();
});

canvas.addEventListener("wheel", event => {
  const {a, b, timeline, margin} = view;
  const whole = b - a >= (timeline.last - timeline.first) + 2 * margin - 1;
  if (whole && event.deltaY > 0 && !event.ctrlKey) return;  // nothing to zoom: let the page scroll
  event.preventDefault();
  const x = event.clientX - canvas.getBoundingClientRect().left;
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  change(() => {
    if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) view.pan(sideways / view.width);
    else view.zoom(Math.exp(Math.max(-80, Math.min(event.deltaY, 80)) * (event.ctrlKey ? 0.01 : 0.004)), x);
  });
  pointed(event);
}, {passive: false});

const zoomIn = () => change(() => view.zoom(0.6)), zoomOut = () => change(() => view.zoom(1 / 0.6));
const earlier = () => change(() => view.pan(-0.25)), later = () => change(() => view.pan(0.25));
const KEYS = {
  "+": zoomIn, "=": zoomIn, "-": zoomOut, "−": zoomOut, "0": showWhole,
  n: () => goToInterest(1), p: () => goToInterest(-1), ".": () => goToMessage(1),
  ",": () => goToMessage(-1), Escape: letGo,
  Home: () => change(() => view.show(view.timeline.first, view.timeline.first + view.b - view.a)),
  End: () => change(() => view.show(view.timeline.last - view.b + view.a, view.timeline.last)),
};

addEventListener("keydown", event => {
  const typing = event.target.closest?.("input[type=text], select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const walks = model.lesson && event.target !== canvas;
  const inSteps = find("steps").contains(event.target);
  let act = KEYS[event.key];
  if (event.key === "ArrowLeft") act = walks ? () => goToStep(state.step - 1) : earlier;
  if (event.key === "ArrowRight") act = walks ? () => goToStep(state.step + 1) : later;
  if (inSteps && event.key === "ArrowUp") act = () => goToStep(state.step - 1);
  if (inSteps && event.key === "ArrowDown") act = () => goToStep(state.step + 1);
  if (!act || (["Home", "End"].includes(event.key) && event.target !== canvas)) return;
  event.preventDefault();
  act();
  if (inSteps && event.key.startsWith("Arrow")) find("steps").children[state.step].firstChild.focus();
});

/* -- beginning ---------------------------------------------------------------------------- */

function listen() {
  const buttons = {"zoom-in": zoomIn, "zoom-out": zoomOut, fit: showWhole, earlier, later,
    "jump-back": () => goToInterest(-1), "jump-on": () => goToInterest(1),
    "step-back": () => goToStep(state.step - 1), "step-on": () => goToStep(state.step + 1)};
  for (const [id, act] of Object.entries(buttons)) find(id).addEventListener("click", act);
  find("clients").addEventListener("change", event => { state.clients = event.target.checked; relay(); });
  find("idle").addEventListener("change", event => setTimeline(event.target.checked));
  find("reveal").addEventListener("change", event => {
    setStepwise(event.target.checked);
    if (event.target.checked) goToStep(Math.max(state.step, 0));
  });
  addEventListener("pointerdown", event => {
    if (!find("filter").contains(event.target)) find("filter").open = false;
  });
  listenMinimap(find("minimap"), () => view, () => change(() => {}));
  new ResizeObserver(() => {
    if (model.notes.length) showStep(state.step, model.notes.length);
    logAtLast = null;
    redraw();
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    paper.recolour();
    miniPaper.recolour();
    drawLegend();
    redraw();
  });
}

function begin() {
  if (!model.lesson) {
    for (const message of model.messages.byId.values()) {
      if (message.family.key === "heartbeat") state.hidden.add(message.name);
    }
  }
  state.clients = model.clients.length > 0;
  find("clients").checked = state.clients;
  find("clients-box").hidden = !model.clients.length;
  find("reveal-box").hidden = !model.lesson;
  find("reveal").checked = state.stepwise;
  fillHead(recording);
  fillFilters(model, state.hidden, redraw);
  fillJumps(model);
  if (model.lesson) find("jumps").hidden = true;
  fillSteps(model, goToStep);
  drawLegend();
  listen();
  const short = model.lesson ? new ShortenedTimeline(model) : view.timeline;
  find("idle-box").hidden = !short.breaks.length;
  find("idle").checked = short.last - short.first < (model.end - model.start) * 0.9;
  if (find("idle").checked) view = new View(short);
  relay();
  if (model.lesson) goToStep(0);
  else if (model.notes.length) showStep(-1, model.notes.length);
}

begin();

/* For scripts: what is shown, and where a message's arrow is on the screen. */
window.tracePage = {
  shown: () => ({step: state.step, horizon: state.horizon, from: view.from, until: view.until,
    messages: shown.count, moving: moving !== null || asked, clients: state.clients}),
  whereIs: id => {
    const box = canvas.getBoundingClientRect(), {x, y} = whereIs(model.messages.byId.get(id));
    return {x: box.left + x, y: box.top + y};
  },
};
