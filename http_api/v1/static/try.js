// Paxos to try oneself: what can be done next, as buttons. The server plays the moves by the real code.

import {h} from "./dom.js";

const SHORT = {prepare: "Ask for promises", crash: "Crash", restart: "Restart"};

function ofMessages(choices, act) {
  const delivered = choices.filter(one => one.kind === "deliver");
  const loss = new Map(choices.filter(one => one.kind === "lose").map(one => [one.move.slice(1), one.move]));
  if (!delivered.length) return [h("p", {class: "soft"}, "No message is on its way.")];
  return delivered.map(one => h("li", {}, h("span", {class: "mono"}, one.text),
    h("button", {type: "button", class: "small", "aria-label": `Deliver ${one.text}`, onclick: () => act(one.move)}, "Deliver"),
    h("button", {type: "button", class: "small danger", "aria-label": `Lose ${one.text}`, onclick: () => act(loss.get(one.move.slice(1)))}, "Lose")));
}

function ofNode(node, choices, act) {
  return h("li", {}, h("b", {}, `node ${node}`), choices.filter(one => one.node === node && SHORT[one.kind]).map(one =>
    h("button", {type: "button", class: one.kind === "crash" ? "small danger" : "small", "aria-label": `${SHORT[one.kind]}: ${one.text}`, title: one.text, onclick: () => act(one.move)}, SHORT[one.kind])));
}

/** The choices of a game in `area`; `act(move)` plays one, `undo()` takes the last one back. */
export function showChoices(area, game, act, undo) {
  const had = area.contains(document.activeElement);
  const {choices, chosen, nodes} = game;
  const all = choices.find(one => one.kind === "all");
  area.replaceChildren(
    h("div", {class: "row spread"}, h("h2", {}, "Your move"), h("div", {class: "row"},
      all ? h("button", {type: "button", class: "small", onclick: () => act(all.move)}, all.text) : null,
      undo ? h("button", {type: "button", class: "small", onclick: undo}, "Undo") : null)),
    h("p", {role: "status", id: "chosen"}, chosen.length ? `Chosen, whether a node knows it or not: ${chosen.join(" and ")}` : "Nothing is chosen yet."),
    choices.length ? h("ul", {class: "flying"}, ofMessages(choices, act)) : h("p", {}, "This game has gone on long enough: undo, or begin anew."),
    choices.length ? h("ul", {class: "actors"}, nodes.map(node => ofNode(node, choices, act))) : null);
  // Who plays by keyboard goes on where the messages are.
  if (had) (area.querySelector(".flying button") || area.querySelector("button")).focus();
}
