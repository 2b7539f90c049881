// Keys and values as bytes: how they are written in addresses, shown, and compared.

const DECODER = new TextDecoder("utf-8", {fatal: true});
const ENCODER = new TextEncoder();
const PLAIN = /[A-Za-z0-9._~/-]/;
const HEX_BYTES_MAX = 4096;
const DIFF_LINES_MAX = 1500;

export const encodeText = text => ENCODER.encode(text);

/** The text of bytes, or null if they are none. */
export function textOf(data) {
  try { return DECODER.decode(data); } catch { return null; }
}

/** Bytes of `name` or `name_base64` in a document of the API. */
export function bytesOf(document, name) {
  if (document[name] !== undefined) return encodeText(document[name]);
  const encoded = document[`${name}_base64`];
  return encoded === undefined ? null : Uint8Array.from(atob(encoded), letter => letter.charCodeAt(0));
}

/** Percent-encoded, so that every byte arrives as it is. */
export const inAddress = data => [...data].map(byte => {
  const letter = String.fromCharCode(byte);
  return byte < 128 && PLAIN.test(letter) ? letter : `%${byte.toString(16).padStart(2, "0").toUpperCase()}`;
}).join("");

/** In a query: like in a path, and a slash is encoded too. */
export const inQuery = data => inAddress(data).replaceAll("/", "%2F");

export function fromAddress(text) {
  const found = [];
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "%") { found.push(parseInt(text.slice(at + 1, at + 3), 16)); at += 2; } else found.push(...encodeText(text[at]));
  }
  return Uint8Array.from(found);
}

/** A key for people: its text, or its bytes as \x.. where it is none. */
export function shownKey(data) {
  const text = textOf(data);
  if (text !== null && !/[\u0000-\u001f\u007f]/.test(text)) return text;
  return [...data].map(byte => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`)).join("");
}

export function hexOf(data) {
  const lines = [];
  for (let at = 0; at < Math.min(data.length, HEX_BYTES_MAX); at += 16) {
    const row = [...data.slice(at, at + 16)];
    const hex = row.map(byte => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const letters = row.map(byte => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex}  ${letters}`);
  }
  if (data.length > HEX_BYTES_MAX) lines.push(`… and ${data.length - HEX_BYTES_MAX} bytes more`);
  return lines.join("\n");
}

/** Indented JSON, or null if it is none. */
export function jsonOf(data) {
  const text = textOf(data);
  if (text === null) return null;
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return null; }
}

/** The form that says most: JSON of an object or a list, else text, else hex. */
export function formFor(data) {
  const text = textOf(data);
  if (text === null || /[\u0000-\u0008\u000e-\u001f]/.test(text)) return "hex";
  return /^\s*[[{]/.test(text) && jsonOf(data) !== null ? "json" : "text";
}

export function shownAs(data, form) {
  if (form === "json") { const json = jsonOf(data); if (json !== null) return json; }
  if (form !== "hex") { const text = textOf(data); if (text !== null) return text; }
  return hexOf(data);
}

/** Lines with "", "add" or "del": the longest common subsequence. Long texts are told apart as wholes. */
export function difference(before, after) {
  const a = before.split("\n"), b = after.split("\n");
  if (a.length + b.length > DIFF_LINES_MAX) return [...a.map(line => ["del", line]), ...b.map(line => ["add", line])];
  const length = Array.from({length: a.length + 1}, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) for (let j = b.length - 1; j >= 0; j -= 1) {
    length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  }
  const found = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { found.push(["", a[i]]); i += 1; j += 1; }
    else if (i < a.length && (j === b.length || length[i + 1][j] >= length[i][j + 1])) { found.push(["del", a[i]]); i += 1; }
    else { found.push(["add", b[j]]); j += 1; }
  }
  return found;
}

/** The first bytes after all those that begin with `prefix`; null if there are none. */
export function afterPrefix(prefix) {
  const end = [...prefix];
  while (end.length && end.at(-1) === 255) end.pop();
  if (!end.length) return null;
  end[end.length - 1] += 1;
  return Uint8Array.from(end);
}
