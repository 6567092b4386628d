// @ts-check
// The list of rooms.
import { count, counted, duration, el, fill, put, rate, serverNow, size, time, why } from "./dom.js";
import { maps, toSummary } from "./model.js";

/** How often the list is asked for anew, and how many rooms one page has. */
const POLL_MS = 2_000;
const PAGE = 50;

/** @typedef {import("./model.js").Summary} Summary */

/** The address of a room's view. @param {string} room */
export const link = (room) => `#room=${encodeURIComponent(room)}`;

export class RoomsView {
  /** @param {import("./api.js").Api} api @param {import("./inspector.js").Access} access */
  constructor(api, access) {
    this.api = api;
    this.access = access;
    this.stopped = false;
    this.prefix = "";
    /** Where the pages before this one began. @type {string[]} */
    this.before = [];
    this.after = "";
    this.next = "";
    /** What was seen last of each room, to tell how fast it changes. @type {Map<string, { session: string, revision: number, at: number, rate: number | null }>} */
    this.seen = new Map();
    /** @type {Map<string, HTMLElement>} */
    this.rows = new Map();
    this.asked = 0;
    /** Questions without an answer yet: a slow server is not asked more and more. */
    this.asking = 0;

    this.facts = el("dl", { class: "facts", "aria-label": "The server" });
    this.filter = el("input", { type: "search", id: "filter", placeholder: "Rooms that begin with…", autocomplete: "off", spellcheck: "false", maxlength: 128, oninput: () => this.search() });
    this.body = el("div", { role: "rowgroup" });
    this.empty = el("p", { class: "empty", hidden: true });
    this.trouble = el("p", { class: "trouble", role: "alert" });
    this.back = el("button", { type: "button", onclick: () => this.turn(-1), text: "← Previous" });
    this.forth = el("button", { type: "button", onclick: () => this.turn(1), text: "Next →" });
    this.page = el("span", { class: "quiet" });
    this.pager = el("nav", { class: "pager", "aria-label": "Pages of rooms" }, this.back, this.page, this.forth);
    const columns = ["Room", "Peers", "Connections", "Keys", "Bytes", "Changes/s", "Open for"];
    this.element = el("div", { class: "rooms" },
      el("h1", { tabindex: -1, text: "Rooms" }), this.facts, this.trouble,
      el("section", { class: "panel", "aria-label": "Rooms" },
        el("div", { class: "panel-head" }, el("label", { for: "filter", class: "hidden", text: "Rooms that begin with" }), this.filter, this.pager),
        el("div", { class: "table", role: "table", "aria-label": "Rooms" },
          el("div", { role: "rowgroup" }, el("div", { role: "row", class: "row head" }, ...columns.map((name, i) => el("span", { role: "columnheader", class: i ? "number" : "", text: name })))),
          this.body),
        this.empty));
    void this.poll();
    this.timer = setInterval(() => document.hidden || this.asking || void this.poll(), POLL_MS);
    this.shown = () => document.hidden || void this.poll();
    document.addEventListener("visibilitychange", this.shown);
  }

  stop() {
    this.stopped = true;
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.shown);
  }

  search() {
    this.prefix = this.filter.value;
    this.before = [];
    this.after = "";
    void this.poll();
  }

  /** @param {1 | -1} way */
  turn(way) {
    if (way > 0) {
      if (!this.next) return;
      this.before.push(this.after);
      this.after = this.next;
    } else this.after = this.before.pop() ?? "";
    void this.poll();
  }

  async poll() {
    // Only the answer to the last question counts: of one asked before the filter changed there is nothing to show.
    const asked = ++this.asked;
    this.asking++;
    try {
      const [server, answer] = await Promise.all([this.access.refresh(), this.api.get(["rooms"], { prefix: this.prefix, after: this.after, limit: PAGE })]);
      if (this.stopped || asked !== this.asked) return;
      put(this.trouble, "");
      this.next = typeof answer.get("next") === "string" ? answer.get("next") : "";
      this.showServer(server);
      this.showRooms(maps(answer, "rooms").map(toSummary));
    } catch (error) {
      if (!this.stopped && asked === this.asked) put(this.trouble, `${why(error)} What is shown may be old; this page goes on trying.`);
    } finally {
      this.asking--;
    }
  }

  /** @param {import("./json.js").JsonMap} server */
  showServer(server) {
    const facts = [
      ["Version", String(server.get("version"))],
      ["Running for", duration(serverNow() - Number(server.get("started_at")))],
      ["Rooms", count(Number(server.get("rooms")))],
      ["Peers", count(Number(server.get("peers")))],
      ["Connections", count(Number(server.get("connections")))],
    ];
    fill(this.facts, ...facts.map(([name, text]) => el("div", {}, el("dt", { text: name }), el("dd", { text }))));
  }

  /** @param {Summary[]} rooms */
  showRooms(rooms) {
    const now = Date.now();
    const seen = this.seen;
    this.seen = new Map();
    const rows = this.rows;
    this.rows = new Map();
    /** @type {HTMLElement[]} */
    const order = [];
    for (const room of rooms) {
      const last = seen.get(room.room);
      let per = last?.rate ?? null;
      if (last && last.session !== room.session) per = null;
      else if (last && now > last.at) per = Math.max(0, room.revision - last.revision) / ((now - last.at) / 1000);
      this.seen.set(room.room, { session: room.session, revision: room.revision, at: now, rate: per });
      const row = rows.get(room.room) ?? this.row(room.room);
      this.rows.set(room.room, row);
      order.push(row);
      const texts = [count(room.peers), count(room.connections), count(room.keys), size(room.bytes), per === null ? "…" : rate(per)];
      texts.forEach((text, i) => put(/** @type {Element} */ (row.children[i + 1]?.lastElementChild), text));
      row.classList.toggle("busy", (per ?? 0) > 0);
      const open = /** @type {Element} */ (row.children[6]?.lastElementChild);
      if (open.getAttribute("data-at") !== String(room.startedAt)) open.replaceWith(time(room.startedAt, "age"));
    }
    // Rows that stay are not moved, so that the focus stays too.
    if (order.length !== this.body.children.length || order.some((row, i) => row !== this.body.children[i])) {
      const focus = document.activeElement;
      this.body.replaceChildren(...order);
      if (focus instanceof HTMLElement && focus.isConnected) focus.focus();
    }
    this.empty.hidden = rooms.length > 0;
    put(this.empty, this.prefix ? "No room begins with that." : this.access.room ? `The room ${this.access.room}, which this token is for, is not open.` : "No room is open. A room opens when its first peer joins.");
    this.back.disabled = !this.before.length;
    this.forth.disabled = !this.next;
    this.pager.hidden = !this.before.length && !this.next;
    put(this.page, `Page ${this.before.length + 1}, ${counted(rooms.length, "room")}`);
  }

  /** @param {string} room */
  row(room) {
    const cell = (/** @type {string} */ label) => el("span", { role: "cell", class: "number" }, el("span", { class: "label", "aria-hidden": "true", text: label }), el("span"));
    return el("div", { role: "row", class: "row" },
      el("span", { role: "cell", class: "name" }, el("a", { href: link(room), text: room })),
      cell("Peers"), cell("Connections"), cell("Keys"), cell("Bytes"), cell("Changes/s"), cell("Open for"));
  }
}

