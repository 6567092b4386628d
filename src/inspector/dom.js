// @ts-check
// Making elements, and the few things every view shows: values, times, what just happened. Whatever comes from a server is
// put in as text, never as markup.
import { stringify, type, visible } from "./json.js";
import { middle } from "./diff.js";

/** @typedef {import("./json.js").Json} Json */
/** @typedef {Node | string | number | null | false | undefined} Child */

/**
 * An element. Of its properties `class` is the class, `on…` a listener, `text` what it says; all others are attributes, left
 * out where they are null or false.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties]
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = visible(String(value));
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/** @param {Child[]} children @returns {Node[]} */
export function nodes(children) {
  const there = children.filter((child) => child !== null && child !== undefined && child !== false);
  return there.map((child) => (child instanceof Node ? child : document.createTextNode(visible(String(child)))));
}

/** Gives an element other children. @param {Element} element @param {Child[]} children */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** Changes a text only if it is another one, as screen readers and selections notice. @param {Node} node @param {string} text */
export function put(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no #${id}`);
  return element;
}

// ---- numbers and times ----

const plain = new Intl.NumberFormat("en");
/** @param {number} n */
export const count = (n) => plain.format(n);

/** @param {number} n @param {string} one @param {string} [many] */
export const counted = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** @param {number} n */
export function size(n) {
  if (n < 1024) return `${n} B`;
  const unit = n < 1024 ** 2 ? "KiB" : n < 1024 ** 3 ? "MiB" : "GiB";
  const value = n / 1024 ** (["KiB", "MiB", "GiB"].indexOf(unit) + 1);
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}

/** Changes in a second. @param {number} n */
export const rate = (n) => (n >= 100 ? count(Math.round(n)) : n >= 10 ? n.toFixed(0) : n.toFixed(1));

let offset = 0;
/** What the server's clock says. */
export const serverNow = () => Date.now() + offset;
/** @param {number} now of the server */
export const setServerNow = (now) => void (offset = now - Date.now());

/** @param {number} ms */
export function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return m < 2 && s % 60 ? `${m} min ${s % 60} s` : `${m} min`;
  const h = Math.floor(m / 60);
  if (h < 24) return m % 60 ? `${h} h ${m % 60} min` : `${h} h`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** @type {Record<string, (at: number) => string>} */
const PHRASES = {
  ago: (at) => (serverNow() - at < 1000 ? "now" : `${duration(serverNow() - at)} ago`),
  age: (at) => duration(serverNow() - at),
  left: (at) => (at > serverNow() ? `${duration(at - serverNow() + 999)} left` : "over"),
  // Of this machine, not of the server.
  until: (at) => (at > Date.now() ? `in ${duration(at - Date.now() + 999)}` : "now"),
};

/** A time that goes on by itself. @param {number} at in ms since 1970 @param {"ago" | "age" | "left" | "until"} how */
export function time(at, how) {
  if (!at) return el("span", { class: "quiet", text: "–" });
  const date = new Date(at);
  const iso = Number.isNaN(date.getTime()) ? "" : date.toISOString();
  const phrase = /** @type {(at: number) => string} */ (PHRASES[how]);
  return el("time", { datetime: iso, title: iso, "data-at": at, "data-how": how, text: phrase(at) });
}

setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("time[data-at]")) {
    const { at, how } = /** @type {HTMLElement} */ (element).dataset;
    const phrase = PHRASES[how ?? ""];
    if (phrase) put(element, phrase(Number(at)));
  }
}, 1000);

/** The time of day here. @param {number} at */
export const clock = (at) => new Date(at).toLocaleTimeString("en-GB");

// ---- values ----

/** Longest text that a line shows of a value. */
const LINE = 200;

/** A value on one line, or (with an indent) on as many as it needs; each type looks different, and says so where it must.
 * @param {Json | undefined} value @param {{ pretty?: boolean }} [how] @returns {HTMLElement} */
export function json(value, { pretty = false } = {}) {
  const box = el(pretty ? "pre" : "code", { class: "json" });
  let left = pretty ? Infinity : LINE;
  /** @param {string} kind @param {string} text */
  const write = (kind, text) => {
    if (left <= 0) return;
    const shown = text.length > left ? `${text.slice(0, left)}…` : text;
    left -= text.length;
    box.append(kind ? el("span", { class: `j-${kind}`, text: shown }) : visible(shown));
  };
  /** @param {Json} item @param {string} before */
  const walk = (item, before) => {
    if (left <= 0) return;
    const list = Array.isArray(item);
    if (!list && !(item instanceof Map)) return write(type(item), stringify(item));
    const [open, close] = list ? "[]" : "{}";
    if (!(list ? item.length : item.size)) return write("", `${open}${close}`);
    const within = `${before}  `;
    write("", `${open}`);
    let first = true;
    for (const [name, member] of item.entries()) {
      if (left <= 0) return;
      write("", `${first ? "" : ","}${pretty ? `\n${within}` : first ? "" : " "}`);
      first = false;
      if (!list) {
        write("name", JSON.stringify(name));
        write("", ": ");
      }
      walk(member, within);
    }
    write("", `${pretty ? `\n${before}` : ""}${close}`);
  };
  if (value === undefined) write("", "nothing");
  else walk(value, "");
  return box;
}

/**
 * How a value became another, as text: signs and words besides the colours.
 * @param {import("./diff.js").Difference} line
 */
export function difference({ path, before, after }) {
  const name = path ? [el("span", { class: "path", text: path }), " "] : [];
  if (before === undefined) return el("div", { class: "diff added" }, el("span", { class: "sign", "aria-hidden": "true", text: "+" }), ...name, el("ins", {}, json(after)));
  if (after === undefined) return el("div", { class: "diff gone" }, el("span", { class: "sign", "aria-hidden": "true", text: "−" }), ...name, el("del", {}, json(before)));
  let [old, now] = [json(before), json(after)];
  if (typeof before === "string" && typeof after === "string" && before.length + after.length < 4 * LINE) {
    const [head, was, is, tail] = middle(JSON.stringify(before).slice(1, -1), JSON.stringify(after).slice(1, -1));
    if (head.length + tail.length > 3) {
      // Only what is next to the change is of interest.
      const start = head.length > 30 ? `…${head.slice(-24)}` : head;
      const end = tail.length > 30 ? `${tail.slice(0, 24)}…` : tail;
      const around = (/** @type {string} */ text) => el("code", { class: "json" }, el("span", { class: "j-string" }, `"${start}`, el("mark", { text }), `${end}"`));
      [old, now] = [around(was), around(is)];
    }
  }
  return el("div", { class: "diff changed" }, el("span", { class: "sign", "aria-hidden": "true", text: "~" }), ...name, el("del", {}, old), el("span", { class: "arrow", text: " → " }), el("ins", {}, now));
}

/** The preview of a peer's metadata or another text that may be long. @param {string} text */
export const short = (text) => (text.length > LINE ? `${text.slice(0, LINE)}…` : text);

// ---- what just happened ----

/** Says something once, to the eye for a while and to screen readers; nothing that comes by the second.
 * @param {string} text @param {"done" | "failed"} [kind] */
export function say(text, kind = "done") {
  const note = el("p", { class: `note ${kind}`, text });
  byId(kind === "failed" ? "alerts" : "status", HTMLElement).replaceChildren(note);
  setTimeout(() => note.remove(), kind === "failed" ? 12_000 : 5_000);
}

/** @param {unknown} error */
export const why = (error) => (error instanceof Error ? error.message : String(error));

/** Copies a text, or shows it where pages may not (without https they may only on this machine). @param {string} text @param {string} what */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}.`);
  } catch {
    const area = el("textarea", { class: "code", readonly: true, rows: 12, "aria-label": `JSON of ${what}` });
    area.value = text;
    const dialog = el("dialog", { "aria-labelledby": "copy-title" }, el("h2", { id: "copy-title", text: `JSON of ${what}` }),
      el("p", { text: "The browser does not let this page write to the clipboard. The text is selected; copy it from here." }),
      area, el("form", { method: "dialog", class: "buttons" }, el("button", { text: "Close" })));
    show(dialog);
    area.select();
  }
}

// ---- dialogs ----

/** Shows a dialog; it is gone when it is closed. @param {HTMLDialogElement} dialog */
export function show(dialog) {
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/**
 * Asks before something that cannot be undone.
 * @param {{ title: string, text: string, action: string, reason?: boolean }} question
 * @returns {Promise<{ reason: string } | null>} null: no
 */
export function confirm({ title, text, action, reason = false }) {
  return new Promise((resolve) => {
    const field = el("input", { id: "reason", maxlength: 120, autocomplete: "off" });
    const form = el("form", { method: "dialog" },
      el("h2", { id: "confirm-title", text: title }),
      el("p", { text }),
      reason && el("label", { for: "reason", text: "Reason, told to those it concerns (may be left out)" }),
      reason && field,
      el("div", { class: "buttons" },
        el("button", { value: "no", formnovalidate: true, type: "button", onclick: () => dialog.close("no"), text: "Cancel" }),
        el("button", { value: "yes", class: "danger", text: action })));
    const dialog = el("dialog", { "aria-labelledby": "confirm-title" }, form);
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? { reason: field.value.trim() } : null));
    show(dialog);
  });
}

