// The calls of the API, with the token of whoever is logged in.

const TOKEN = "kvstore-token";
let token = null;
try { token = sessionStorage.getItem(TOKEN); } catch { /* storage is forbidden here: log in again after a reload */ }
let askForLogin = async () => false;

/** `login()` asks the person for name and password; whether they are right. */
export function whenLoginIsNeeded(login) { askForLogin = login; }
export const loggedIn = () => token !== null;

export function setToken(value) {
  token = value;
  try {
    if (value === null) sessionStorage.removeItem(TOKEN); else sessionStorage.setItem(TOKEN, value);
  } catch { /* as above */ }
}

/** What the server refused, with the problem's detail as its message. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || `status ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

let login = null;
async function shownLogin() {
  login = login || askForLogin().finally(() => { login = null; });
  return login;
}

/** A request; throws Refused, or TypeError if the node cannot be reached. Asks for a login once. */
export async function call(method, path, {headers = {}, body, signal} = {}, again = true) {
  const sent = {...headers};
  if (token !== null) sent.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, {method, headers: sent, body, signal, cache: "no-store", credentials: "omit"});
  if (answer.status === 401 && again && await shownLogin()) return call(method, path, {headers, body, signal}, false);
  if (answer.ok) return answer;
  let problem = {};
  try { problem = await answer.json(); } catch { /* no problem document: the status says it */ }
  throw new Refused(answer.status, problem);
}

export const getJson = async (path, options) => (await call("GET", path, options)).json();
export const postJson = async (path, document) =>
  (await call("POST", path, {body: JSON.stringify(document), headers: {"Content-Type": "application/json"}})).json();

/** Log in; throws Refused. */
export async function authenticate(user, password) {
  const answer = await fetch("/v1/auth/login", {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({user, password}), credentials: "omit",
  });
  const found = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, found);
  setToken(found.token);
}

function parsed(block) {
  const event = {name: "message", data: "", id: null};
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("data: ")) event.data += line.slice(6);
    else if (line.startsWith("id: ")) event.id = line.slice(4);
  }
  return event;
}

/** One stream of Server-Sent Events, until it ends. EventSource cannot send a token. */
async function stream(path, headers, signal, onEvent) {
  const answer = await call("GET", path, {headers, signal});
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) if (block && !block.startsWith(":")) onEvent(parsed(block));
  }
}

/** Events for as long as `signal` allows, through lost connections. `onState(error or null)`. */
export async function events(path, {signal, onEvent, onState, resume = false}) {
  let last = null, wait_ms = 500;
  while (!signal.aborted) {
    try {
      const headers = resume && last !== null ? {"Last-Event-ID": last} : {};
      await stream(path, headers, signal, event => {
        wait_ms = 500;
        if (event.id !== null) last = event.id;
        onState(null);
        onEvent(event);
      });
      if (!signal.aborted) onState(new Error("the node ended the stream"));
    } catch (error) {
      if (signal.aborted) return;
      onState(error);
      if (error instanceof Refused && error.status < 500 && error.status !== 401) return;
    }
    await new Promise(done => setTimeout(done, wait_ms));
    wait_ms = Math.min(wait_ms * 2, 5000);
  }
}
