// @ts-check
// The keys of a room as a tree, split at "/": a treegrid, of which one row is in the tab order.
import { count, counted, el, fill, json, put, time } from "./dom.js";
import { called } from "./model.js";

/** Rows shown at most; a person filters long before, and pages stay quick. */
const MAX_ROWS = 2_000;

/** @typedef {import("./model.js").State} State */
/** @typedef {{ path: string, name: string, level: number, state: State | null, children: Map<string, Branch>, keys: number, position: number, of: number }} Branch */
/** @typedef {{ element: HTMLElement, cells: Record<"twist" | "name" | "value" | "version" | "author" | "age", HTMLElement>, state: State | null | undefined, node: Branch }} Row */

export class KeysView {
  /**
   * @param {import("./model.js").RoomModel} model
   * @param {{ onSelect(key: string): void, onAct(act: "edit" | "remove" | "copy", key: string): void }} listener
   */
  constructor(model, listener) {
    this.model = model;
    this.listener = listener;
    this.filter = "";
    this.selected = "";
    this.shape = -1;
    /** Paths whose children are not shown. @type {Set<string>} */
    this.collapsed = new Set();
    /** By path, in the order of the page. @type {Map<string, Row>} */
    this.rows = new Map();
    /** The path of the row that Tab comes to. */
    this.current = "";
    this.body = el("div", { role: "rowgroup" });
    this.note = el("p", { class: "empty", hidden: true });
    const head = ["Key", "Value", "Version", "Author", "Age"].map((name) => el("span", { role: "columnheader", text: name }));
    this.grid = el("div", { class: "tree", role: "treegrid", "aria-label": "Keys", onkeydown: (/** @type {KeyboardEvent} */ e) => this.key(e), onclick: (/** @type {MouseEvent} */ e) => this.click(e), onfocusin: (/** @type {FocusEvent} */ e) => this.focused(e) },
      el("div", { role: "rowgroup" }, el("div", { role: "row", class: "row head" }, ...head)), this.body);
    this.element = el("div", {}, this.grid, this.note);
  }

  /** The keys that the filter lets through. */
  shown() {
    const wanted = this.filter.toLowerCase();
    const keys = [...this.model.values.keys()].filter((key) => !wanted || key.toLowerCase().includes(wanted));
    return keys.sort();
  }

  /** @param {string} text */
  setFilter(text) {
    this.filter = text;
    this.shape = -1;
    this.render();
  }

  render() {
    if (this.shape !== this.model.shape) {
      this.shape = this.model.shape;
      this.build();
    }
    for (const row of this.rows.values()) this.update(row);
  }

  build() {
    const keys = this.shown();
    /** @type {Branch} */
    const root = { path: "", name: "", level: 0, state: null, children: new Map(), keys: 0, position: 1, of: 1 };
    for (const key of keys) {
      let node = root;
      let path = "";
      for (const [level, name] of key.split("/").entries()) {
        path = level ? `${path}/${name}` : name;
        let next = node.children.get(name);
        if (!next) node.children.set(name, (next = { path, name, level: level + 1, state: null, children: new Map(), keys: 0, position: node.children.size + 1, of: 0 }));
        node = next;
        node.keys++;
      }
      node.state = this.model.get(key);
    }
    /** @type {Branch[]} */
    const nodes = [];
    /** @param {Branch} parent */
    const walk = (parent) => {
      for (const node of parent.children.values()) {
        if (nodes.length >= MAX_ROWS) return;
        node.of = parent.children.size;
        nodes.push(node);
        if (!this.collapsed.has(node.path)) walk(node);
      }
    };
    walk(root);
    this.lay(nodes);
    const cut = nodes.length >= MAX_ROWS;
    this.note.hidden = nodes.length > 0 && !cut;
    this.grid.hidden = nodes.length === 0;
    put(this.note, cut ? `The first ${count(MAX_ROWS)} rows of ${counted(keys.length, "key")}; filter to see others.` : this.filter ? "No key has that in its name." : this.model.open === false ? "" : "No key is set.");
  }

  /** @param {Branch[]} nodes */
  lay(nodes) {
    const focus = this.body.contains(document.activeElement);
    const old = [...this.rows.keys()];
    const rows = new Map();
    for (const node of nodes) {
      const row = this.rows.get(node.path) ?? this.make(node);
      row.node = node;
      row.state = undefined;
      rows.set(node.path, row);
    }
    for (const [path, row] of this.rows) if (!rows.has(path)) row.element.remove();
    this.rows = rows;
    // In their order, without moving those that are in place.
    let place = this.body.firstElementChild;
    for (const { element } of rows.values()) {
      if (place && element === place) place = place.nextElementSibling;
      else this.body.insertBefore(element, place);
    }
    if (!rows.has(this.current)) {
      // The row is gone: its place is taken by the next that is left, or the one before.
      const at = old.indexOf(this.current);
      const next = [...old.slice(at + 1), ...old.slice(0, Math.max(at, 0)).reverse()].find((path) => rows.has(path));
      this.current = next ?? nodes[0]?.path ?? "";
    }
    for (const [path, row] of rows) row.element.tabIndex = path === this.current ? 0 : -1;
    if (focus && !this.body.contains(document.activeElement)) rows.get(this.current)?.element.focus();
  }

  /** @param {Branch} node @returns {Row} */
  make(node) {
    const cell = (/** @type {string} */ name, role = "gridcell") => el("span", { role, class: name });
    const twist = el("span", { class: "twist", "aria-hidden": "true" });
    const name = el("span", { class: "leaf", text: node.name || "“”" });
    const head = cell("key", "rowheader");
    head.append(twist, name);
    const cells = { twist, name, value: cell("value"), version: cell("version number"), author: cell("author"), age: cell("age number") };
    const element = el("div", { role: "row", class: "row", tabindex: -1, "data-path": node.path }, head, cells.value, cells.version, cells.author, cells.age);
    element.style.setProperty("--level", String(Math.min(node.level - 1, 12)));
    return { element, cells, state: undefined, node };
  }

  /** @param {Row} row */
  update(row) {
    const { element, cells, node } = row;
    const state = this.model.values.get(node.path) ?? null;
    const selected = this.selected === node.path && state !== null;
    element.setAttribute("aria-selected", String(selected));
    if (row.state === state) return;
    const changed = row.state && state && row.state.version !== state.version;
    row.state = state;
    const branch = node.children.size > 0;
    const closed = this.collapsed.has(node.path);
    element.setAttribute("aria-level", String(node.level));
    element.setAttribute("aria-posinset", String(node.position));
    element.setAttribute("aria-setsize", String(node.of));
    if (branch) element.setAttribute("aria-expanded", String(!closed));
    else element.removeAttribute("aria-expanded");
    element.classList.toggle("branch", branch && !state);
    put(cells.twist, branch ? (closed ? "▸" : "▾") : "");
    if (state) {
      fill(cells.value, json(state.data), state.expiresAt ? el("span", { class: "badge", title: "expires" }, "⏱ ", time(state.expiresAt, "left")) : null);
      put(cells.version, `v${state.version}`);
      put(cells.author, called(state.by));
      fill(cells.age, time(state.at, "age"));
    } else {
      fill(cells.value, el("span", { class: "quiet", text: counted(node.keys, "key") }));
      for (const cell of [cells.version, cells.author, cells.age]) put(cell, "");
    }
    if (changed) {
      element.classList.remove("flash");
      // Reading a measure lets the animation begin anew.
      void element.offsetWidth;
      element.classList.add("flash");
    }
  }

  /** @param {Event} event */
  rowOf(event) {
    const element = event.target instanceof Element ? event.target.closest("[data-path]") : null;
    return element instanceof HTMLElement ? this.rows.get(element.dataset["path"] ?? "") : undefined;
  }

  /** @param {FocusEvent} event */
  focused(event) {
    const row = this.rowOf(event);
    if (row) this.moveTo(row.node.path, false);
  }

  /** @param {string} path @param {boolean} [focus] */
  moveTo(path, focus = true) {
    const row = this.rows.get(path);
    if (!row) return;
    const old = this.rows.get(this.current);
    if (old) old.element.tabIndex = -1;
    this.current = path;
    row.element.tabIndex = 0;
    if (focus) row.element.focus();
  }

  /** @param {MouseEvent} event */
  click(event) {
    const row = this.rowOf(event);
    if (!row) return;
    const twist = event.target instanceof Element && event.target.closest(".twist");
    if (row.node.children.size && (twist || !row.state)) this.toggle(row.node);
    else if (row.state) this.select(row.node.path);
  }

  /** @param {Branch} node @param {boolean} [open] */
  toggle(node, open = this.collapsed.has(node.path)) {
    if (open) this.collapsed.delete(node.path);
    else this.collapsed.add(node.path);
    this.shape = -1;
    this.render();
  }

  /** @param {string} key */
  select(key) {
    this.selected = key;
    for (const row of this.rows.values()) row.element.setAttribute("aria-selected", String(row.node.path === key && !!row.state));
    if (key) this.listener.onSelect(key);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const row = this.rowOf(event);
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const { node } = row;
    const paths = [...this.rows.keys()];
    const at = paths.indexOf(node.path);
    const branch = node.children.size > 0;
    const open = branch && !this.collapsed.has(node.path);
    const go = (/** @type {number} */ to) => this.moveTo(paths[Math.min(Math.max(to, 0), paths.length - 1)] ?? "");
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowDown: () => go(at + 1),
      ArrowUp: () => go(at - 1),
      PageDown: () => go(at + 10),
      PageUp: () => go(at - 10),
      Home: () => go(0),
      End: () => go(paths.length - 1),
      ArrowRight: () => (branch && !open ? this.toggle(node, true) : branch ? go(at + 1) : undefined),
      ArrowLeft: () => (open ? this.toggle(node, false) : this.parent(node)),
      Enter: () => (row.state ? this.select(node.path) : this.toggle(node)),
      " ": () => (branch && !row.state ? this.toggle(node) : this.select(node.path)),
      e: () => row.state && this.listener.onAct("edit", node.path),
      c: () => row.state && this.listener.onAct("copy", node.path),
      Delete: () => row.state && this.listener.onAct("remove", node.path),
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  /** @param {Branch} node */
  parent(node) {
    const slash = node.path.lastIndexOf("/");
    if (slash >= 0) this.moveTo(node.path.slice(0, slash));
  }
}
