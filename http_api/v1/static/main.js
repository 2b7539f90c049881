// The frame: which view is shown, the live overview that all of them share, theme and login.

import {authenticate, call, events, loggedIn, setToken, whenLoginIsNeeded} from "./api.js";
import {ask, dress, find, h, say} from "./dom.js";
import * as cluster from "./cluster.js";
import * as load from "./load.js";
import * as log from "./log.js";
import * as keys from "./keys.js";
import * as watch from "./watch.js";
import * as users from "./users.js";
import * as backups from "./backups.js";

const ICONS = {
  cluster: "M12 4 5 18h14zM12 4v0M5 18v0M19 18v0", log: "M4 6h4v4H4zM10 6h4v4h-4zM16 6h4v4h-4zM4 14h4v4H4zM10 14h4v4h-4z",
  load: "M4 19V5M4 19h16M7 15l4-5 3 3 5-7", keys: "M5 6h6M5 12h10M9 18h10", watch: "M4 12h4l2-6 4 12 2-6h4",
  users: "M12 4a4 4 0 1 0 .1 0zM4 20c1-5 5-6 8-6s7 1 8 6", backups: "M4 6h16v4H4zM6 10v9h12v-9M10 14h4",
};
const VIEWS = [
  {name: "cluster", title: "Cluster", view: cluster}, {name: "log", title: "Log", view: log},
  {name: "load", title: "Load", view: load}, {name: "keys", title: "Keys", view: keys}, {name: "watch", title: "Watch", view: watch},
  {name: "users", title: "Users", view: users}, {name: "backups", title: "Backups", view: backups},
];
const shared = {overview: null, at: 0, error: null};
let shown = null;
let shownName = "";

// -- theme ------------------------------------------------------------------------------------

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;
try { chosenTheme = localStorage.getItem("kvstore-theme"); } catch { /* not kept here */ }

function paint() {
  const theme = chosenTheme || (prefersDark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  say(find("theme"), theme === "dark" ? "☀" : "☾");
  find("theme").setAttribute("aria-label", theme === "dark" ? "Switch to light colours" : "Switch to dark colours");
  if (shown && shown.repaint) shown.repaint();
}
prefersDark.addEventListener("change", paint);
find("theme").addEventListener("click", () => {
  chosenTheme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("kvstore-theme", chosenTheme); } catch { /* not kept */ }
  paint();
});

// -- views ------------------------------------------------------------------------------------

find("nav").append(...VIEWS.map(({name, title}) => h("a", {href: `#${name}`, id: `to-${name}`},
  h("svg", {viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": 1.8, "aria-hidden": "true"}, h("path", {d: ICONS[name]})), title)));

function show() {
  const [name, ...rest] = location.hash.slice(1).split(":");
  const found = VIEWS.find(view => view.name === name) || VIEWS[0];
  const argument = rest.join(":");
  if (found.name === shownName && shown.go) { shown.go(argument); return; }
  if (shown && shown.close) shown.close();
  for (const view of VIEWS) {
    const link = find(`to-${view.name}`);
    if (view === found) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${found.title} · kvstore`;
  shownName = found.name;
  shown = found.view.open(find("view"), argument);
  if (shared.overview && shown.update) shown.update(shared.overview);
  window.scrollTo(0, 0);
}
window.addEventListener("hashchange", show);
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const at = Number(event.key) - 1;
  if (VIEWS[at]) { location.hash = VIEWS[at].name; find("view").focus(); }
  if (event.key === "/") {
    event.preventDefault();
    location.hash = "keys";
    setTimeout(() => { const search = find("search"); if (search) search.focus(); });
  }
});

// -- login ------------------------------------------------------------------------------------

function logIn() {
  return ask("Log in", close => {
    const name = h("input", {id: "login-name", autocomplete: "username", required: true});
    const password = h("input", {id: "login-password", type: "password", autocomplete: "current-password", required: true});
    const problem = h("p", {class: "bad small", role: "alert"});
    const form = h("form", {method: "dialog"},
      h("p", {class: "soft small"}, "Authentication is on in this store. What you see and do here, you do under your name."),
      h("div", {class: "field"}, h("label", {for: "login-name"}, "User"), name),
      h("div", {class: "field"}, h("label", {for: "login-password"}, "Password"), password), problem,
      h("div", {class: "actions"}, h("button", {class: "primary"}, "Log in")));
    form.addEventListener("submit", async event => {
      event.preventDefault();
      try {
        await authenticate(name.value, password.value);
        showUser(name.value);
        close(true);
      } catch (error) {
        say(problem, `Not logged in: ${error.message}`);
      }
    });
    return form;
  }, true);
}

function showUser(name) {
  const button = find("user");
  button.hidden = !loggedIn();
  say(button, name ? `${name} · log out` : "Log out");
}
find("user").addEventListener("click", () => { setToken(null); location.reload(); });
whenLoginIsNeeded(async () => { setToken(null); return Boolean(await logIn()); });
showUser("");

// -- the live overview --------------------------------------------------------------------------

function showState() {
  const state = find("state");
  if (shared.error) {
    say(state, "no answer from this node");
    dress(state, "bad");
    return;
  }
  const found = shared.overview.findings;
  const bad = found.filter(one => one.severity === "bad").length;
  say(state, !found.length ? "all is well" : found.length === 1 ? found[0].kind.replaceAll("-", " ") : `${found.length} troubles`);
  dress(state, bad ? "bad" : found.length ? "warn" : "good");
}

function receive(event) {
  shared.overview = JSON.parse(event.data);
  shared.at = Date.now();
  shared.error = null;
  showState();
  if (shown && shown.update) shown.update(shared.overview);
}

let life = null;

/** Listen while somebody can see the page: a browser has only six connections for all tabs of a node. */
function listen() {
  const wanted = !document.hidden;
  if (wanted === (life !== null)) return;
  if (!wanted) { life.abort(); life = null; return; }
  life = new AbortController();
  shared.at = Date.now();
  events("/v1/overview/live", {
    signal: life.signal, onEvent: receive,
    onState: error => { shared.error = error; if (error) showState(); },
  });
}
document.addEventListener("visibilitychange", listen);
// A page that is left may be kept by the browser for the way back, with its connections.
window.addEventListener("pagehide", () => { if (life) { life.abort(); life = null; } if (shown && shown.close) shown.close(); });
window.addEventListener("pageshow", event => { listen(); if (event.persisted) { shownName = ""; show(); } });

// A connection that stands still says nothing: after some seconds without an overview, that is said.
setInterval(() => {
  if (life && shared.overview && Date.now() - shared.at > 6000) { shared.error = new Error("silent"); showState(); }
}, 2000);

call("GET", "/v1/version").then(answer => answer.json())
  .then(found => { say(find("version"), `version ${found.version}`); }).catch(() => {});
if (document.body.dataset.demo) import("./demo.js").then(demo => demo.open(find("demo"), shared));
paint();
show();
