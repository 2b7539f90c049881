// The controls of `kvstore demo`: stop, freeze and start nodes, load, and the judge's verdict.

import {count, dress, h, nodeColour, say, toast} from "./dom.js";

const HEADERS = {"X-Kvstore-Demo": "1", "Content-Type": "application/json"};

async function control(path, document = {}) {
  const answer = await fetch(path, {method: "POST", headers: HEADERS, body: JSON.stringify(document)});
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

function nodeGroup(id, act) {
  const stop = h("button", {type: "button", class: "danger", onclick: () => act(id, stop.dataset.action)});
  const freeze = h("button", {type: "button", onclick: () => act(id, freeze.dataset.action)});
  const cut = h("button", {type: "button", onclick: () => act(id, cut.dataset.action)});
  const wipe = h("button", {type: "button", class: "danger", "aria-label": `Wipe node ${id}: empty its disk`, title: "Kill it, empty its disk, start it: it heals by itself", onclick: () => act(id, "wipe")}, "Wipe");
  const name = h("span", {}, `node ${id}`);
  const box = h("div", {class: "group", role: "group", "aria-label": `node ${id}`, "data-node": id},
    h("span", {}, h("span", {class: "dot", style: {"--colour": nodeColour(id)}}), name), stop, freeze, cut, wipe);
  return {box, stop, freeze, cut, wipe, name};
}

function showNode(parts, {id, state, cut, member}) {
  say(parts.name, member === id ? `node ${id}` : `node ${id} (member ${member} now)`);
  parts.cut.dataset.action = cut ? "plug" : "cut";
  say(parts.cut, cut ? "Reconnect" : "Cut off");
  dress(parts.cut, cut ? "primary" : "");
  parts.cut.setAttribute("aria-label", `${cut ? "Reconnect" : "Cut off"} node ${id}`);
  parts.stop.dataset.action = state === "stopped" ? "start" : "stop";
  say(parts.stop, state === "stopped" ? "Start" : "Stop");
  dress(parts.stop, state === "stopped" ? "primary" : "danger");
  parts.stop.setAttribute("aria-label", `${state === "stopped" ? "Start" : "Stop"} node ${id}`);
  parts.freeze.dataset.action = state === "frozen" ? "start" : "freeze";
  say(parts.freeze, state === "frozen" ? "Thaw" : "Freeze");
  parts.freeze.setAttribute("aria-label", `${state === "frozen" ? "Thaw" : "Freeze"} node ${id}`);
  parts.freeze.disabled = state === "stopped";
}

function showVerdict(chip, load) {
  const {verdict} = load;
  if (!verdict) { dress(chip, "chip"); say(chip, `${count(load.done)} answered, ${count(load.failed)} not; no checker is installed`); return; }
  if (!verdict.operations) { dress(chip, "chip"); say(chip, "no history to judge yet: move the slider"); return; }
  dress(chip, `chip ${verdict.linearizable ? "good" : "bad"}`);
  const open = verdict.undecided ? `, ${verdict.undecided} keys undecided` : "";
  say(chip, `${verdict.linearizable ? "✓ linearizable" : "✗ NOT linearizable"}: ${count(verdict.operations)} operations in ${count(verdict.rounds)} rounds${open}; ${count(load.failed)} calls failed`);
  chip.title = verdict.failures.join("\n");
}

export function open(bar, shared) {
  const groups = new Map();
  const nodes = h("div", {class: "group"});
  const leader = h("button", {type: "button", class: "primary", id: "stop-leader"}, "Stop the leader");
  const slider = h("input", {type: "range", id: "demo-load", min: 0, max: 500, step: 10, value: 0});
  const rate = h("output", {for: "demo-load"}, "0/s");
  const chip = h("span", {class: "chip", role: "status", id: "verdict"});
  bar.hidden = false;
  bar.append(h("div", {class: "inner", role: "region", "aria-label": "Demo"}, h("b", {}, "Demo"), leader, nodes,
    h("div", {class: "group"}, h("label", {for: "demo-load"}, "Load"), slider, rate), chip));

  let nodesNow = [];
  function show(state) {
    nodesNow = state.nodes;
    for (const node of state.nodes) {
      if (!groups.has(node.id)) {
        groups.set(node.id, nodeGroup(node.id, act));
        nodes.append(groups.get(node.id).box);
      }
      showNode(groups.get(node.id), node);
    }
    if (document.activeElement !== slider) slider.value = state.load.rate_per_s;
    say(rate, `${slider.value}/s`);
    showVerdict(chip, state.load);
  }
  async function act(id, action) {
    try { show(await control(`/demo/nodes/${id}/${action}`)); } catch (error) { toast(error.message); }
  }
  leader.addEventListener("click", () => {
    const found = shared.overview && shared.overview.nodes.find(node => node.document && node.document.cluster.node.role === "leader");
    const node = found && nodesNow.find(one => one.member === found.id);
    if (node) act(node.id, "stop"); else toast("No node leads now.");
  });
  slider.addEventListener("input", () => say(rate, `${slider.value}/s`));
  slider.addEventListener("change", async () => {
    try { show(await control("/demo/load", {rate_per_s: Number(slider.value)})); } catch (error) { toast(error.message); }
  });
  async function look() {
    if (!document.hidden) {
      try { show(await (await fetch("/demo/state", {cache: "no-store"})).json()); } catch { dress(chip, "chip bad"); say(chip, "the demo has ended"); }
    }
    setTimeout(look, 1000);
  }
  look();
}
