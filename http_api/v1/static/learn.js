// The lessons: one sentence a step, the messages of the step as a picture, and the code that answers them.

import {find, h, nodeColour, say} from "./dom.js";
import {showChoices} from "./try.js";

const ROW = 26, TOP = 14, HEAD = 38, PLAY_MS = 4200, LETTER = 6.3;
const json = async path => (await fetch(path)).json();
let code = {}, lesson = null, step = 0, playing = 0;

// -- theme, as on the dashboard -------------------------------------------------------------------

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let theme = null;
try { theme = localStorage.getItem("kvstore-theme"); } catch { /* not kept here */ }
function paint() {
  const now = theme || (prefersDark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now;
  say(find("theme"), now === "dark" ? "☀" : "☾");
  find("theme").setAttribute("aria-label", now === "dark" ? "Switch to light colours" : "Switch to dark colours");
}
prefersDark.addEventListener("change", paint);
find("theme").addEventListener("click", () => {
  theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("kvstore-theme", theme); } catch { /* not kept */ }
  paint();
});

// -- the picture ------------------------------------------------------------------------------------

/** Rows of the picture: each event of the steps so far has one, a message's arrival too. */
function rowsOf(upto) {
  const rows = [], arrival = new Map(), lost = new Map();
  lesson.steps.slice(0, upto + 1).forEach((one, at) => {
    for (const event of one.events) {
      if (event.kind === "delivered" || event.kind === "lost") {
        const where = event.kind === "lost" ? lost : arrival;
        if (!where.has(event.id)) where.set(event.id, rows.length);
        if (event.kind === "delivered") rows.push(null);
      } else if (event.kind !== "slot" || event.state !== "applied") rows.push({...event, step: at});
    }
  });
  return {rows, arrival, lost};
}

/** A text beside a lane that does not leave the picture: `left` of it if there is room, else right. */
function label(names, text, x, y, width, left) {
  const long = text.length * LETTER;
  const toLeft = left ? x - long - 8 > 0 : x + long + 8 > width && x - long - 8 > 0;
  const at = toLeft ? x - 8 : Math.max(4, Math.min(x + 8, width - long - 4));
  return h("text", {class: names, x: at, y, "text-anchor": toLeft ? "end" : "start"}, text);
}
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function drawMessage(event, y, end, gone, x, width) {
  const from = x(event.from), to = x(event.to), target = gone ? from + (to - from) * 0.55 : to;
  const tip = y + (end - y) * (gone ? 0.55 : 1), colour = nodeColour(event.from), side = to > from ? -1 : 1;
  const children = [h("path", {class: `message${gone ? " lost" : ""}`, stroke: colour, d: `M${from} ${y}L${target} ${tip}`})];
  if (gone) children.push(h("text", {x: target, y: tip + 4, fill: colour, "text-anchor": "middle"}, "✕"));
  else if (to !== from) {
    const angle = Math.atan2(tip - y, to - from), wing = spread => `${target - 9 * Math.cos(angle + spread)} ${tip - 9 * Math.sin(angle + spread)}`;
    children.push(h("path", {d: `M${target} ${tip}L${wing(0.4)}L${wing(-0.4)}Z`, fill: colour}));
  }
  children.push(label("label", cut(event.text, 46), from, y - 4, width, side > 0));
  const group = h("g", {role: "button", tabindex: 0, "aria-label": `node ${event.from} to node ${event.to}: ${event.text}${gone ? ", lost" : ""}; shows its code`}, children);
  group.addEventListener("click", () => showCode(event.name));
  group.addEventListener("keydown", key => { if (key.key === "Enter" || key.key === " ") { key.preventDefault(); key.stopPropagation(); showCode(event.name); } });
  return group;
}

function drawOther(event, y, x, width) {
  if (event.kind === "slot") {
    const text = `${event.state === "chosen" ? "✓ chosen" : event.state}: slot ${event.slot} ${event.value === "" ? "no-op" : event.value}`;
    return label("label", cut(text, 40), x(event.node), y + 4, width, false);
  }
  const text = event.kind === "happened" ? `${event.name}${event.text ? `: ${event.text}` : ""}`
    : event.kind === "asked" ? `client asks: ${event.text}` : event.kind === "answered" ? `client hears: ${event.name}, ${event.text}` : event.text;
  return label("note", cut(text, 52), event.node ? x(event.node) : -4, y + 4, width, false);
}

function draw(area) {
  const {rows, arrival, lost} = rowsOf(step);
  const width = Math.max(330, area.clientWidth - 40), height = TOP + ROW * (rows.length + 1);
  const gap = width / lesson.nodes.length;
  const x = node => gap * (lesson.nodes.indexOf(node) + 0.5);
  const svg = h("svg", {viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": "Messages so far, from top to bottom"});
  const head = h("svg", {class: "lanes", viewBox: `0 0 ${width} ${HEAD}`, height: HEAD, "aria-hidden": "true"});
  for (const node of lesson.nodes) {
    svg.append(h("line", {class: "lane", x1: x(node), x2: x(node), y1: 0, y2: height}));
    head.append(h("circle", {cx: x(node), cy: 18, r: 13, fill: nodeColour(node)}), h("text", {class: "name", x: x(node), y: 22.5, style: {fill: "var(--card)"}}, String(node)));
  }
  rows.forEach((event, at) => {
    if (!event) return;
    const y = TOP + ROW * at + 10;
    const end = arrival.has(event.id) ? TOP + ROW * arrival.get(event.id) + 10 : y + ROW;
    const drawn = event.kind === "sent" ? drawMessage(event, y, Math.max(end, y + 12), lost.has(event.id) && !arrival.has(event.id), x, width) : drawOther(event, y, x, width);
    if (event.step < step) drawn.setAttribute("class", "old");
    svg.append(drawn);
  });
  area.replaceChildren(head, svg);
  area.scrollTop = area.scrollHeight;
}

// -- the lesson ---------------------------------------------------------------------------------------

function showCode(name) {
  const found = code[name], area = document.querySelector(".code");
  if (!area) return;
  area.replaceChildren(h("h2", {}, found ? `What a node does with ${/^[AEIOU]/.test(name) ? "an" : "a"} ${name}` : "The code"),
    found ? h("p", {class: "soft small mono"}, `${found.file}:${found.line}`) : h("p", {class: "soft"}, "Choose a message to see the code that answers it."),
    found ? h("pre", {tabindex: 0, "aria-label": `Code that answers ${name}`}, found.text) : null);
}

function go(to) {
  step = Math.max(0, Math.min(lesson.steps.length - 1, to));
  const one = lesson.steps[step];
  say(find("sentence"), one.text);
  say(find("count"), `${step + 1} of ${lesson.steps.length}`);
  find("progress").value = step;
  find("back").disabled = step === 0;
  find("next").disabled = step === lesson.steps.length - 1;
  draw(document.querySelector(".picture"));
  const last = one.events.filter(event => event.kind === "sent").at(-1);
  showCode(last ? last.name : "");
  const hash = `#${lesson.name}:${step + 1}`;
  if (location.hash !== hash && !lesson.choices) history.replaceState(null, "", hash);
  if (step === lesson.steps.length - 1) play(false);
}

function play(on) {
  clearInterval(playing);
  playing = on ? setInterval(() => go(step + 1), PLAY_MS) : 0;
  say(find("play"), on ? "Pause" : "Play");
}

async function open(name, at) {
  lesson = await json(`/ui/learn/${name}.json`);
  show(name, at);
}

/** A game is its moves: each one is another address, so that the browser's Back takes it back, too. */
async function openGame(moves) {
  const game = await json(`/learn/play.json?moves=${encodeURIComponent(moves)}`);
  if (!game.steps) { location.hash = "#try"; return; }
  lesson = game;
  show("try", game.steps.length - 1);
  const goTo = words => { location.hash = words.length ? `#try:${words.join(".")}` : "#try"; };
  const played = moves ? moves.split(".") : [];
  showChoices(find("choices"), game, move => goTo([...played, move]), played.length ? () => goTo(played.slice(0, -1)) : null);
}

function show(name, at) {
  play(false);
  find("choices").hidden = !lesson.choices;
  find("play").hidden = Boolean(lesson.choices);
  document.title = `${lesson.title} · Paxos, step by step`;
  for (const link of document.querySelectorAll("#lessons a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  find("title").textContent = lesson.title;
  find("facts").textContent = lesson.facts.filter(([key]) => key !== "trace digest").map(([key, value]) => `${key}: ${value}`).join(" · ");
  find("progress").max = lesson.steps.length - 1;
  go(at);
}

function follow() {
  const [name, at] = location.hash.slice(1).split(":");
  if (name === "try") return openGame(at || "");
  const first = document.querySelector("#lessons a").hash.slice(1);
  const known = [...document.querySelectorAll("#lessons a")].some(link => link.hash === `#${name}`);
  return open(known ? name : first, Number(at || 1) - 1);
}

async function begin() {
  paint();
  const {lessons} = await json("/ui/learn/index.json");
  code = await json("/learn/code.json");
  find("lessons").append(h("h2", {}, "Lessons"), h("ol", {}, lessons.map(one => h("li", {}, h("a", {href: `#${one.name}`}, one.title, h("span", {}, one.about)))),
    h("li", {}, h("a", {href: "#try"}, "Try it yourself", h("span", {}, "You deliver and lose the messages, and crash nodes.")))));
  const button = (id, text, run) => h("button", {id, type: "button", onclick: run}, text);
  find("lesson").append(h("div", {}, h("h1", {id: "title"}), h("p", {id: "facts", class: "soft small"})),
    h("div", {class: "card say"}, h("p", {id: "sentence", "aria-live": "polite"}), h("div", {class: "controls"}, button("back", "Back", () => go(step - 1)), button("next", "Next", () => go(step + 1)),
      button("play", "Play", () => play(!playing)), h("progress", {id: "progress", value: 0, "aria-label": "Progress"}), h("span", {id: "count", class: "soft small"}))),
    h("section", {class: "card pad stack", id: "choices", "aria-label": "Your move", hidden: true}),
    h("div", {class: "stage"}, h("section", {class: "card pad picture", tabindex: 0, "aria-label": "The picture"}), h("section", {class: "card pad code", "aria-label": "The code"})));
  find("next").classList.add("primary");
  document.addEventListener("keydown", event => {
    if (event.target.closest("input, textarea") || !lesson) return;
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (by) { event.preventDefault(); go(step + by); }
  });
  window.addEventListener("hashchange", follow);
  new ResizeObserver(() => { if (lesson) draw(document.querySelector(".picture")); }).observe(document.querySelector(".picture"));
  await follow();
}
begin();
