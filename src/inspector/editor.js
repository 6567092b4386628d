// @ts-check
// Changing a value: on the version that was shown, so that nobody's work is overwritten unseen.
import { ApiError } from "./api.js";
import { diff } from "./diff.js";
import { bytes, parse, same, stringify } from "./json.js";
import { called, toState } from "./model.js";
import { count, counted, difference, el, fill, json, put, say, show, time, why } from "./dom.js";

/** @typedef {import("./json.js").Json} Json */
/** @typedef {import("./model.js").State} State */

/** @type {Omit<State, "key">} */
const NEVER_SET = { data: null, version: 0, at: 0, by: null, expiresAt: null, reason: null };

/**
 * Sets a key, or removes it, if it still is what the person has seen. In a session that has begun meanwhile, of which the
 * page may not know yet, the version can be the same: so the value must be, too.
 * @param {{ api: import("./api.js").Api, room: string }} of
 * @param {string} key
 * @param {number} version
 * @param {Json} seen
 * @param {Json} data null to remove it
 * @param {Record<string, Json>} [more]
 */
export function writeOver({ api, room }, key, version, seen, data, more) {
  const map = (/** @type {Record<string, Json>} */ members) => new Map(Object.entries(members));
  const check = map(seen === null ? { key, exists: false } : { key, equals: seen });
  const write = map({ key, op: "set", data, if_change_version: version, ...more });
  return api.ask("POST", ["rooms", room, "transactions"], { body: map({ checks: [check], writes: [write] }) });
}

/**
 * Opens the dialog for a key, or for a new one.
 * @param {{ api: import("./api.js").Api, room: string, maxValueBytes: number, current(key: string): State | null, session(): string }} of
 * @param {string} key empty for a new one
 * @returns {{ refresh(): void }} to be told that the room has changed
 */
export function edit(of, key) {
  const known = key ? of.current(key) : null;
  /** What the write depends on: the version that the person has seen, and in which session, as each counts them anew. */
  let base = known?.version ?? 0;
  let basis = /** @type {Json} */ (known?.data ?? null);
  let session = of.session();

  const name = el("input", { id: "edit-key", class: "code", required: true, maxlength: 256, autocomplete: "off", spellcheck: "false" });
  const area = el("textarea", { id: "edit-value", class: "code", rows: 8, spellcheck: "false", autocomplete: "off", "aria-describedby": "edit-hint edit-error", oninput: () => check() });
  area.value = known ? stringify(known.data, "  ") : "";
  const ttl = el("input", { id: "edit-ttl", type: "number", min: 0.001, max: 31_536_000, step: "any", autocomplete: "off" });
  const hint = el("p", { id: "edit-hint", class: "quiet" });
  const error = el("p", { id: "edit-error", class: "error", role: "alert" });
  const meanwhile = el("p", { class: "warning", role: "status" });
  const conflict = el("div", { class: "conflict", role: "group", "aria-label": "Conflict", tabindex: -1, hidden: true });
  const save = el("button", { class: "primary", text: "Save" });
  const title = key ? "Edit" : "New key";
  const form = el("form", { onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), void write()) },
    el("h2", { id: "edit-title" }, title, key ? " " : null, key ? el("code", { text: key }) : null),
    !key && el("label", { for: "edit-key", text: "Key" }), !key && name,
    el("label", { for: "edit-value", text: "Value, as JSON" }), area, hint, error, meanwhile, conflict,
    el("label", { for: "edit-ttl", text: "Expires after … seconds (empty: never)" }), ttl,
    known?.expiresAt ? el("p", { class: "quiet" }, "As it is, it expires: ", time(known.expiresAt, "left"), ". Saved without a time it stays.") : null,
    known && el("p", { class: "quiet" }, "Saved here it is bound to no peer: if it was to go with one, it stays."),
    el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close(), text: "Cancel" }), save));
  const dialog = el("dialog", { class: "wide", "aria-labelledby": "edit-title" }, form);

  /** @returns {Json | undefined} undefined if it is none */
  function check() {
    put(error, "");
    try {
      const value = parse(area.value);
      const size = bytes(stringify(value));
      const on = key ? (known ? `Saved only if it still has version ${base}.` : base ? `Saved only if it has version ${base}.` : "Saved only if it is still absent.") : "Saved only if there is no such key yet.";
      put(hint, `${counted(size, "byte")}${of.maxValueBytes ? ` of ${count(of.maxValueBytes)}` : ""}. ${on}${value === null ? " null removes the key." : ""}`);
      area.setAttribute("aria-invalid", "false");
      return value;
    } catch (problem) {
      put(hint, `${why(problem)} Strings need double quotes.`);
      area.setAttribute("aria-invalid", "true");
      return undefined;
    }
  }

  async function write() {
    const target = key || name.value;
    const value = check();
    if (value === undefined) {
      put(error, "This is not JSON yet; nothing was saved.");
      return area.focus();
    }
    const theirs = of.current(target);
    if (session !== of.session() && (base || theirs)) return clash(theirs ?? { ...NEVER_SET, key: target }, value);
    save.disabled = true;
    try {
      await writeOver(of, target, base, basis, value, ttl.value ? { ttl_ms: Math.round(Number(ttl.value) * 1000) } : {});
      dialog.close();
      say(`Saved ${target}.`);
    } catch (problem) {
      if (problem instanceof ApiError && problem.status === 412 && problem.current) clash(toState(problem.current), value);
      else put(error, why(problem));
    } finally {
      save.disabled = false;
    }
  }

  /** @param {State} theirs @param {Json} mine */
  function clash(theirs, mine) {
    put(meanwhile, "");
    const seen = of.session();
    const { lines, more } = diff(theirs.data, mine);
    const take = (/** @type {boolean} */ value) => {
      base = theirs.data === null ? 0 : theirs.version;
      basis = theirs.data;
      session = seen;
      if (value) area.value = theirs.data === null ? "" : stringify(theirs.data, "  ");
      conflict.hidden = true;
      check();
    };
    fill(conflict,
      el("h3", { text: "Somebody was faster. Nothing was saved." }),
      el("p", {}, theirs.data === null ? "The key is absent now" : `Version ${theirs.version} is by ${called(theirs.by)}`, theirs.at ? ", " : null, theirs.at ? time(theirs.at, "ago") : null, "."),
      el("div", { class: "both" },
        el("section", { "aria-label": "Theirs" }, el("h4", { text: "Theirs" }), json(theirs.data, { pretty: true })),
        el("section", { "aria-label": "Yours" }, el("h4", { text: "Yours" }), json(mine, { pretty: true }))),
      el("section", { "aria-label": "From theirs to yours" }, el("h4", { text: "From theirs to yours" }), ...lines.map(difference), more ? el("p", { class: "quiet", text: `and ${more} more` }) : null),
      el("div", { class: "buttons" },
        el("button", { type: "button", text: "Take theirs", onclick: () => (take(true), area.focus()) }),
        el("button", { type: "button", text: "Keep editing mine", onclick: () => (take(false), area.focus()) }),
        el("button", { type: "button", class: "danger", text: "Save mine over theirs", onclick: () => (take(false), void write()) })));
    conflict.hidden = false;
    conflict.focus();
    conflict.scrollIntoView({ block: "nearest" });
  }

  check();
  show(dialog);
  (key ? area : name).focus();
  return {
    refresh() {
      if (!key || !dialog.open || !conflict.hidden) return;
      const now = of.current(key);
      const moved = ((now?.version ?? 0) !== base || session !== of.session()) && !same(now?.data ?? null, basis);
      put(meanwhile, !moved ? "" : now ? `It has changed meanwhile: version ${now.version}, by ${called(now.by)}. Saving will show you both.` : "It has been removed meanwhile. Saving will say so.");
    },
  };
}
