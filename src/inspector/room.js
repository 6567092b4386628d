// @ts-check
// One room, live.
import { Watch, ApiError } from "./api.js";
import { diff } from "./diff.js";
import { clock, confirm, copy, count, counted, difference, el, fill, json, put, rate, say, short, size, time, why } from "./dom.js";
import { edit, writeOver } from "./editor.js";
import { bytes, parse, stringify } from "./json.js";
import { KeysView } from "./keys.js";
import { KEPT, LOCK_PREFIX, RoomModel, called, maps, toLock, toPeer, toSummary } from "./model.js";

/** @typedef {import("./json.js").JsonMap} JsonMap */
/** @typedef {import("./model.js").State} State */
/** @typedef {import("./model.js").Change} Change */
/** @typedef {import("./model.js").News} News */

/** How often is asked for what the stream does not tell: bytes, connections, how long locks last. */
const POLL_MS = 2_000;
/** After a lock has changed, not once for each of many. */
const SOON_MS = 200;
/** Least time between two pictures: more a person does not see, and a busy room would keep the browser busy. */
const PICTURE_MS = 100;
/** Events kept while paused; beyond, the page takes a snapshot when it goes on. */
const MAX_WAITING = 2_000;
/** Seconds that the curve of changes shows. */
const CURVE = 60;
/** Peers and locks shown at most. */
const MAX_LIST = 500;

const SVG = "http://www.w3.org/2000/svg";

/** What became of a key. @param {Change} change @returns {[string, string]} a class and a word */
function fate({ state, before }) {
  if (state.data !== null) return before ? ["changed", "set"] : ["added", "new"];
  if (state.reason === "expired") return ["gone", "expired"];
  if (state.reason === "peer-left") return ["gone", "gone with its peer"];
  return ["gone", "removed"];
}

export class RoomView {
  /** @param {import("./api.js").Api} api @param {import("./inspector.js").Access} access @param {string} room */
  constructor(api, access, room) {
    this.api = api;
    this.access = access;
    this.room = room;
    this.model = new RoomModel();
    this.stopped = false;
    this.paused = false;
    /** @type {[string, JsonMap][]} */
    this.waiting = [];
    this.counted = 0;
    this.overrun = false;
    /** Of the picture that will come. @type {ReturnType<typeof setTimeout> | undefined} */
    this.picture = undefined;
    this.pictured = 0;
    /** Whether is asked now, and whether again after that. */
    this.polling = false;
    this.pollAgain = false;
    this.shownNews = 0;
    this.shownCompany = -1;
    this.selected = "";
    /** @type {unknown} */
    this.shownDetail = null;
    /** @type {import("./model.js").Lock[]} */
    this.locks = [];
    /** @type {JsonMap | null} */
    this.limits = null;
    /** @type {import("./model.js").Summary | null} */
    this.summary = null;
    /** Changes in each of the last seconds, the newest last. */
    this.curve = new Array(CURVE).fill(0);
    this.lastChanges = 0;
    /** Bytes of values, counted once. @type {WeakMap<State, number>} */
    this.sizes = new WeakMap();
    this.lost = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.soon = undefined;
    /** @type {{ refresh(): void } | null} */
    this.editor = null;
    const may = (/** @type {string} */ scope) => access.scopes.has(scope);
    this.mayWrite = may("write");
    this.mayManage = may("manage");

    // Head
    this.pill = el("span", { class: "pill", text: "connecting" });
    this.retry = el("button", { type: "button", hidden: true, text: "Try now", onclick: () => this.watch.now() });
    this.facts = el("span", { class: "quiet facts-line" });
    this.perSecond = el("strong", { text: "0.0" });
    this.line = document.createElementNS(SVG, "polyline");
    const svg = document.createElementNS(SVG, "svg");
    for (const [name, value] of Object.entries({ viewBox: `0 0 ${CURVE - 1} 20`, preserveAspectRatio: "none", class: "curve", "aria-hidden": "true" })) svg.setAttribute(name, value);
    svg.append(this.line);
    this.pauseButton = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.pause(), text: "Pause" });
    this.trouble = el("p", { class: "trouble", role: "alert" });
    this.session = el("p", { class: "banner", hidden: true });
    const head = el("div", { class: "room-head" },
      el("div", { class: "room-name" }, el("h1", { tabindex: -1, text: room }), this.pill, this.retry),
      el("div", { class: "room-rate" }, svg, el("span", {}, this.perSecond, " changes/s")),
      this.facts,
      el("div", { class: "buttons" }, this.pauseButton,
        this.mayManage && el("button", { type: "button", class: "danger", onclick: () => void this.close(), text: "Close room" })));

    // Keys
    this.keys = new KeysView(this.model, {
      onSelect: (key) => this.select(key, true),
      onAct: (act, key) => (act === "copy" ? void this.copyKey(key) : !this.mayWrite ? say("This token may not write; it needs the scope write.", "failed") : act === "edit" ? this.edit(key) : void this.remove(key)),
    });
    this.filter = el("input", { type: "search", id: "filter", placeholder: "Filter by key…", autocomplete: "off", spellcheck: "false", maxlength: 256, oninput: () => this.search() });
    this.filterNote = el("span", { class: "quiet", role: "status" });
    this.keysTitle = el("h2", { id: "keys-title", tabindex: -1, text: "Keys" });
    this.detail = el("section", { class: "panel detail", hidden: true, "aria-labelledby": "detail-title" });
    const keys = el("section", { class: "panel keys", "aria-labelledby": "keys-title" },
      el("div", { class: "panel-head" }, this.keysTitle, el("label", { for: "filter", class: "hidden", text: "Filter by key" }), this.filter, this.filterNote,
        el("div", { class: "buttons" },
          el("button", { type: "button", onclick: () => void this.copyAll(), text: "Copy JSON" }),
          this.mayWrite && el("button", { type: "button", onclick: () => this.edit(""), text: "New key" }))),
      this.keys.element);

    // Changes
    this.feed = el("ol", { class: "feed", "aria-labelledby": "changes-title" });
    this.feedNote = el("p", { class: "empty", text: "Nothing has happened yet since this page watches." });
    this.changesTitle = el("h2", { id: "changes-title", tabindex: -1, text: "Changes" });
    const changes = el("section", { class: "panel changes", "aria-labelledby": "changes-title" },
      el("div", { class: "panel-head" }, this.changesTitle, el("span", { class: "quiet", text: `newest first, at most ${KEPT.news}` })),
      el("div", { class: "scroll", role: "region", "aria-label": "List of changes", tabindex: 0 }, this.feed), this.feedNote);

    // Company
    this.peersTitle = el("h2", { id: "peers-title", tabindex: -1, text: "Peers" });
    this.peerList = el("ul", { class: "list", "aria-labelledby": "peers-title" });
    this.locksTitle = el("h2", { id: "locks-title", tabindex: -1, text: "Locks" });
    this.lockList = el("ul", { class: "list", "aria-labelledby": "locks-title" });
    this.usage = el("div", { class: "usage" });
    /** @type {Map<string, { meter: HTMLMeterElement, text: HTMLElement, box: HTMLElement }>} */
    this.meters = new Map();
    const side = el("div", { class: "side" },
      el("section", { class: "panel", "aria-labelledby": "usage-title" }, el("div", { class: "panel-head" }, el("h2", { id: "usage-title", tabindex: -1, text: "Usage" })), this.usage),
      el("section", { class: "panel", "aria-labelledby": "peers-title" }, el("div", { class: "panel-head" }, this.peersTitle), this.peerList),
      el("section", { class: "panel", "aria-labelledby": "locks-title" }, el("div", { class: "panel-head" }, this.locksTitle), this.lockList));

    const parts = /** @type {[string, string][]} */ ([["keys-title", "Keys"], ["changes-title", "Changes"], ["usage-title", "Usage"], ["peers-title", "Peers"], ["locks-title", "Locks"]]);
    const jump = el("nav", { class: "jump", "aria-label": "Parts of the room" }, ...parts.map(([id, text]) => el("button", { type: "button", text, onclick: () => {
      const title = document.getElementById(id);
      title?.scrollIntoView();
      title?.focus({ preventScroll: true });
    } })));
    this.columns = el("div", { class: "columns" }, el("div", { class: "main" }, keys, this.detail), changes, side);
    this.element = el("div", { class: "room" }, head, this.trouble, this.session, jump, this.columns);

    this.watch = new Watch(api, room, {
      onEvent: (name, data) => this.event(name, data),
      onLink: (link) => this.link(link),
      onFailed: (error) => this.failed(error),
    });
    this.timer = setInterval(() => this.second(), 1000);
    this.pollTimer = setInterval(() => document.hidden || this.polling || void this.poll(), POLL_MS);
    void this.poll();
  }

  stop() {
    this.stopped = true;
    this.watch.stop();
    clearInterval(this.timer);
    clearInterval(this.pollTimer);
    clearTimeout(this.soon);
    clearTimeout(this.picture);
  }

  // ---- what comes in ----

  /** @param {string} name @param {JsonMap} data */
  event(name, data) {
    if (!this.paused) return this.take(name, data);
    this.counted += name === "changes" ? maps(data, "values").length : 1;
    if (this.waiting.length < MAX_WAITING && !this.overrun) this.waiting.push([name, data]);
    else {
      // Too many to keep: they are only counted, and the next snapshot has what they came to.
      this.overrun = true;
      this.waiting = [];
    }
    this.soonRender();
  }

  /** @param {string} name @param {JsonMap} data */
  take(name, data) {
    const company = this.model.company;
    this.model.apply(name, data, Date.now());
    if (this.model.company !== company) this.soonPoll();
    this.soonRender();
  }

  /** @param {import("./api.js").Link} link */
  link(link) {
    const old = this.pill.dataset["state"];
    this.pill.dataset["state"] = link.state;
    this.retry.hidden = link.state !== "waiting";
    if (link.state === "waiting") {
      fill(this.pill, `${link.why} Trying again `, time(link.until, "until"));
      if (old === "live") say("The connection to the server broke; this page reconnects by itself.", "failed");
    } else put(this.pill, link.state);
    if (link.state === "live" && this.lost) say("Connected again.");
    this.lost = link.state === "waiting" || (this.lost && link.state === "connecting");
  }

  /** @param {ApiError} error */
  failed(error) {
    this.pill.dataset["state"] = "failed";
    put(this.pill, "not watching");
    this.retry.hidden = true;
    put(this.trouble, error.message);
  }

  soonPoll() {
    if (this.soon) return;
    this.soon = setTimeout(() => ((this.soon = undefined), void this.poll()), SOON_MS);
  }

  async poll() {
    if (this.polling) {
      this.pollAgain = true;
      return;
    }
    this.polling = true;
    this.pollAgain = false;
    try {
      const room = await this.api.get(["rooms", this.room]);
      if (this.stopped) return;
      put(this.trouble, "");
      this.summary = toSummary(room);
      this.locks = maps(room, "locks").map(toLock);
      this.limits = room.get("limits") instanceof Map ? room.get("limits") : null;
      // Whose connection is lost is not always news.
      if (!this.paused) {
        for (const peer of maps(room, "peers_list").map(toPeer)) {
          const known = this.model.peers.get(peer.id);
          if (known) this.model.peers.set(peer.id, peer);
        }
        this.shownCompany = -1;
      }
    } catch (error) {
      if (this.stopped) return;
      if (error instanceof ApiError && error.status === 404) {
        this.summary = null;
        this.locks = [];
        if (this.model.open === null) this.model.open = false;
        this.shownCompany = -1;
      } else if (error instanceof ApiError && error.status !== 401 && error.status !== 0) put(this.trouble, error.message);
    } finally {
      this.polling = false;
    }
    if (this.pollAgain && !this.stopped) this.soonPoll();
    this.soonRender();
  }

  second() {
    this.curve.shift();
    this.curve.push(this.model.changes - this.lastChanges);
    this.lastChanges = this.model.changes;
    const most = Math.max(...this.curve, 1);
    this.line.setAttribute("points", this.curve.map((n, i) => `${i},${(19 - (18 * n) / most).toFixed(1)}`).join(" "));
    const recent = this.curve.slice(-5);
    put(this.perSecond, rate(recent.reduce((a, b) => a + b, 0) / recent.length));
  }

  // ---- what is shown ----

  soonRender() {
    if (this.picture || this.stopped) return;
    const wait = Math.max(0, this.pictured + PICTURE_MS - performance.now());
    this.picture = setTimeout(() => requestAnimationFrame(() => {
      this.picture = undefined;
      this.pictured = performance.now();
      if (!this.stopped) this.render();
    }), wait);
  }

  render() {
    const { model } = this;
    this.session.hidden = model.open !== false;
    put(this.session, "Nobody is in this room: it has no session. This page waits for the next one.");
    put(this.pauseButton, this.paused ? `Resume (${counted(this.counted, "event")} waiting)` : "Pause");
    this.columns.classList.toggle("paused", this.paused);
    const facts = model.open ? [el("span", { text: `Revision ${count(model.revision)}` })] : [];
    if (this.summary) facts.push(el("span", {}, "open for ", time(this.summary.startedAt, "age")), el("span", { text: counted(this.summary.connections, "connection") }));
    fill(this.facts, ...facts);
    this.keys.render();
    put(this.keysTitle, `Keys (${count(model.values.size)})`);
    put(this.filterNote, this.filter.value ? `${count(this.keys.shown().length)} of ${count(model.values.size)}` : "");
    this.renderNews();
    this.renderUsage();
    if (this.shownCompany !== model.company) {
      this.shownCompany = model.company;
      this.renderPeers();
      this.renderLocks();
    }
    this.renderDetail();
    this.editor?.refresh();
  }

  renderNews() {
    const fresh = Math.min(this.model.told - this.shownNews, this.model.news.length);
    this.shownNews = this.model.told;
    if (!fresh) return;
    this.feedNote.hidden = true;
    const items = this.model.news.slice(0, fresh).map((news) => this.item(news));
    const scroll = /** @type {HTMLElement} */ (this.feed.parentElement);
    const height = scroll.scrollTop ? this.feed.offsetHeight : 0;
    this.feed.prepend(...items);
    while (this.feed.children.length > KEPT.news) this.feed.lastElementChild?.remove();
    // Who reads further down is not carried away.
    if (height && CSS.supports("overflow-anchor", "none") === false) scroll.scrollTop += this.feed.offsetHeight - height;
  }

  /** @param {News} news */
  item(news) {
    const when = el("time", { class: "quiet", datetime: new Date(news.at).toISOString(), text: clock(news.at) });
    if (news.kind === "note") return el("li", { class: "news note-item" }, when, " ", el("strong", { text: news.text }));
    if (news.kind === "peer") {
      const words = { joined: "joined", left: "left", lost: "is gone: connection lost", updated: "changed name or metadata" };
      return el("li", { class: `news peer ${news.what}` }, when, " ", el("span", { class: "badge", text: "peer" }), " ", el("strong", { text: called({ name: news.peer.name, peer_id: news.peer.id }) }), ` ${words[news.what]}`);
    }
    const [kind, word] = fate(news);
    const lock = news.state.key.startsWith(LOCK_PREFIX);
    const name = lock ? news.state.key.slice(LOCK_PREFIX.length) : news.state.key;
    const what = lock ? (news.state.data === null ? "free" : "taken") : word;
    return el("li", { class: "news change" },
      el("div", { class: "news-head" }, when, el("span", { class: `badge ${kind}`, text: lock ? `lock ${what}` : what }),
        lock ? el("strong", { text: name }) : el("button", { type: "button", class: "link", text: name, onclick: () => this.select(news.state.key, true) }),
        this.by(news)),
      lock ? null : this.lines(news.before?.data, news.state.data === null ? undefined : news.state.data));
  }

  /** Who made a change, and which version it made. @param {Change} change */
  by({ state, before, missed }) {
    const versions = before && state.version ? `v${before.version} → v${state.version}` : state.version ? `v${state.version}` : "";
    const who = state.by && state.reason !== "expired" ? `by ${called(state.by)}` : "";
    return el("span", { class: "quiet" }, [versions, who].filter(Boolean).join(" "), missed ? " (noticed after a gap: there may have been more)" : null);
  }

  /** @param {import("./json.js").Json | undefined} before @param {import("./json.js").Json | undefined} after */
  lines(before, after) {
    const { lines, more } = diff(before, after);
    return el("div", { class: "lines" },
      ...lines.map(difference),
      !lines.length ? el("div", { class: "quiet", text: "the same value again" }) : null,
      more ? el("div", { class: "quiet", text: `and ${counted(more, "more difference")}` }) : null);
  }

  renderUsage() {
    const limit = (/** @type {string} */ name) => Number(this.limits?.get(name) ?? 0);
    let largest = 0;
    for (const state of this.model.values.values()) largest = Math.max(largest, this.sizeOf(state));
    this.meter("Keys", this.summary?.keys ?? 0, limit("max_keys"), count);
    this.meter("Bytes", this.summary?.bytes ?? 0, limit("max_store_bytes"), size);
    this.meter("Largest value", largest, limit("max_value_bytes"), size);
    this.meter("Peers", this.summary?.peers ?? 0, limit("max_peers"), count);
  }

  /** @param {State} state */
  sizeOf(state) {
    let known = this.sizes.get(state);
    if (known === undefined) this.sizes.set(state, (known = bytes(stringify(state.data))));
    return known;
  }

  /** @param {string} name @param {number} value @param {number} limit @param {(n: number) => string} write */
  meter(name, value, limit, write) {
    let row = this.meters.get(name);
    if (!row) {
      const id = `meter-${this.meters.size}`;
      row = { meter: el("meter", { id, min: 0 }), text: el("span", { class: "number" }), box: el("div", { class: "usage-row" }) };
      row.box.append(el("label", { for: id, text: name }), row.text, row.meter);
      this.meters.set(name, row);
      this.usage.append(row.box);
    }
    row.meter.hidden = !limit;
    if (limit) Object.assign(row.meter, { max: limit, low: limit * 0.75, high: limit * 0.9, optimum: 0, value });
    const share = limit ? (value / limit) * 100 : 0;
    put(row.text, limit ? `${write(value)} of ${write(limit)} (${share > 0 && share < 1 ? "<1" : Math.round(share)} %)${share >= 90 ? " – nearly full" : ""}` : write(value));
  }

  renderPeers() {
    const peers = [...this.model.peers.values()].sort((a, b) => a.joinedAt - b.joinedAt || (a.id < b.id ? -1 : 1));
    put(this.peersTitle, `Peers (${count(peers.length)})`);
    const items = peers.slice(0, MAX_LIST).map((peer) => {
      const name = called({ name: peer.name, peer_id: peer.id });
      return { id: peer.id, text: `${JSON.stringify(peer)}`, make: () => el("li", { "data-id": peer.id },
        el("div", { class: "who" },
          el("span", { class: `dot ${peer.connected ? "on" : "off"}`, "aria-hidden": "true", text: peer.connected ? "●" : "○" }),
          el("strong", { text: name }), el("span", { class: "badge", text: peer.role }),
          el("span", { class: "hidden", text: peer.connected ? "connected" : "" }),
          this.mayManage && el("button", { type: "button", class: "small danger", "aria-label": `Kick ${name}`, onclick: () => void this.kick(peer.id, name), text: "Kick" })),
        peer.connected ? null : el("div", { class: "warn-text", text: "connection lost (grace period)" }),
        el("div", { class: "quiet" }, "id ", el("code", { text: peer.id }), peer.user ? " user " : null, peer.user ? el("code", { text: peer.user }) : null, " joined ", time(peer.joinedAt, "ago")),
        peer.metadata && el("details", {}, el("summary", { text: "metadata" }), metadata(peer.metadata))) };
    });
    relist(this.peerList, items, peers.length > MAX_LIST ? `and ${count(peers.length - MAX_LIST)} more` : "Nobody is here.");
  }

  renderLocks() {
    const known = new Map(this.locks.map((lock) => [lock.name, lock]));
    const locks = [...this.model.locks.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    put(this.locksTitle, `Locks (${count(locks.length)})`);
    const items = locks.slice(0, MAX_LIST).map((state) => {
      const name = state.key.slice(LOCK_PREFIX.length);
      const lock = known.get(name);
      const holder = state.data instanceof Map && typeof state.data.get("holder") === "string" ? state.data.get("holder") : "";
      const who = lock?.holder && lock.holder.peer_id === holder ? called(lock.holder) : called({ name: this.model.peers.get(holder)?.name ?? "", peer_id: holder });
      const ends = lock && lock.token === state.version ? lock.expiresAt : state.expiresAt ?? 0;
      return { id: name, text: `${who} ${state.version} ${ends}`, make: () => el("li", { "data-id": name },
        el("div", { class: "who" }, el("strong", { text: name }),
          ends ? time(ends, "left") : null,
          this.mayManage && el("button", { type: "button", class: "small danger", "aria-label": `Release ${name}`, onclick: () => void this.release(name, who), text: "Release" })),
        el("div", { class: "quiet" }, "held by ", el("strong", { text: who }), " for ", time(state.at, "age"), ", token ", el("code", { text: String(state.version) }))) };
    });
    relist(this.lockList, items, locks.length > MAX_LIST ? `and ${count(locks.length - MAX_LIST)} more` : "No lock is held.");
  }

  // ---- one key ----

  /** @param {string} key @param {boolean} focus */
  select(key, focus) {
    this.selected = key;
    this.shownDetail = null;
    if (this.keys.selected !== key) this.keys.selected = key;
    this.render();
    if (focus && key) {
      this.detail.scrollIntoView({ block: "nearest" });
      document.getElementById("detail-title")?.focus({ preventScroll: true });
    }
  }

  renderDetail() {
    const key = this.selected;
    this.detail.hidden = !key;
    if (!key) return;
    const state = this.model.get(key);
    const seen = this.model.history.get(key) ?? [];
    const shown = seen[0] ?? state ?? "absent";
    if (this.shownDetail === shown) return;
    this.shownDetail = shown;
    const focus = this.detail.contains(document.activeElement) ? document.activeElement?.id : null;
    const last = state ?? seen[0]?.state ?? null;
    const fact = (/** @type {string} */ name, /** @type {import("./dom.js").Child[]} */ ...children) => el("div", {}, el("dt", { text: name }), el("dd", {}, ...children));
    const scroll = this.detail.querySelector(".history")?.scrollTop ?? 0;
    fill(this.detail,
      el("div", { class: "panel-head" }, el("h2", { id: "detail-title", tabindex: -1 }, el("code", { text: key })),
        el("div", { class: "buttons" },
          state && el("button", { type: "button", id: "detail-copy", onclick: () => void this.copyKey(key), text: "Copy" }),
          this.mayWrite && el("button", { type: "button", id: "detail-edit", onclick: () => this.edit(key), text: state ? "Edit" : "Set" }),
          this.mayWrite && state && el("button", { type: "button", id: "detail-remove", class: "danger", onclick: () => void this.remove(key), text: "Remove" }),
          el("button", { type: "button", id: "detail-close", "aria-label": "Close this key", onclick: () => this.unselect(), text: "✕" }))),
      state ? json(state.data, { pretty: true }) : el("p", { class: "empty", text: seen[0] ? `Absent: ${fate(seen[0])[1]}.` : "Absent." }),
      last && el("dl", { class: "facts" },
        last.version ? fact("Version", String(last.version)) : null,
        last.by ? fact(state ? "Author" : "Removed by", called(last.by), last.by.user_id && last.by.user_id !== called(last.by) ? [" (user ", last.by.user_id, ")"].join("") : null, last.by.peer_id ? el("span", { class: "quiet", text: ` peer ${last.by.peer_id}` }) : null) : null,
        last.at ? fact(state ? "Written" : "Gone since", time(last.at, "ago"), el("span", { class: "quiet", text: ` at ${clock(last.at)}` })) : null,
        state?.expiresAt ? fact("Expires", time(state.expiresAt, "left")) : null,
        state ? fact("Size", counted(this.sizeOf(state), "byte"), this.limits?.get("max_value_bytes") ? el("span", { class: "quiet", text: ` of ${count(Number(this.limits.get("max_value_bytes")))}` }) : null) : null),
      el("h3", { text: `History (${count(seen.length)})` }),
      el("p", { class: "quiet", text: `What this page has seen since ${clock(this.model.since || Date.now())}; at most the last ${KEPT.perKey} changes. The server keeps no history.` }),
      seen.length ? el("ol", { class: "history feed", tabindex: 0, "aria-label": "History" }, ...seen.map((change) => el("li", { class: "news change" },
        el("div", { class: "news-head" }, el("time", { class: "quiet", datetime: new Date(change.at).toISOString(), text: clock(change.at) }), el("span", { class: `badge ${fate(change)[0]}`, text: fate(change)[1] }), this.by(change)),
        this.lines(change.before?.data, change.state.data === null ? undefined : change.state.data)))) : null);
    const history = this.detail.querySelector(".history");
    if (history) history.scrollTop = scroll;
    if (focus !== null) document.getElementById(focus || "detail-title")?.focus({ preventScroll: true });
  }

  unselect() {
    const key = this.selected;
    this.select("", false);
    this.keys.select("");
    this.keys.moveTo(key);
  }

  search() {
    this.keys.setFilter(this.filter.value);
    this.soonRender();
  }

  // ---- what a person does ----

  pause(on = !this.paused) {
    if (on === this.paused) return;
    this.paused = on;
    this.pauseButton.setAttribute("aria-pressed", String(on));
    if (on) {
      this.counted = 0;
      say("Paused. Events are counted, and shown when you resume.");
    } else {
      const waiting = this.waiting;
      this.waiting = [];
      if (this.overrun) this.watch.again();
      else for (const [name, data] of waiting) this.take(name, data);
      this.overrun = false;
      say(`Resumed: ${counted(this.counted, "event")} taken in.`);
      void this.poll();
    }
    this.render();
  }

  /** @param {string} key */
  edit(key) {
    this.editor = edit({ api: this.api, room: this.room, maxValueBytes: Number(this.limits?.get("max_value_bytes") ?? 0), current: (name) => this.model.get(name), session: () => this.model.session }, key);
  }

  /** @param {string} key */
  async remove(key) {
    const state = this.model.get(key);
    if (!state) return;
    const answer = await confirm({ title: `Remove ${key}?`, text: `Everybody in the room will see it gone. It is removed only if it still has version ${state.version}.`, action: "Remove" });
    if (!answer) return;
    try {
      await writeOver(this, key, state.version, state.data, null);
      say(`Removed ${key}.`);
    } catch (error) {
      const conflict = error instanceof ApiError && error.status === 412;
      say(conflict ? `${key} has changed meanwhile; nothing was removed. Look at it again.` : why(error), "failed");
    }
  }

  /** @param {string} id @param {string} name */
  async kick(id, name) {
    const answer = await confirm({ title: `Kick ${name}?`, text: "Its connection is closed, and it is out of the room at once, with what goes with it. Its app may join again.", action: "Kick", reason: true });
    if (answer) await this.act(["rooms", this.room, "peers", id], answer.reason, `Kicked ${name}.`);
  }

  /** @param {string} name @param {string} holder */
  async release(name, holder) {
    const answer = await confirm({ title: `Release ${name}?`, text: `${holder} loses the lock, and the next who waits gets it. Writes under the old token are refused from then on.`, action: "Release" });
    if (answer) await this.act(["rooms", this.room, "locks", name], "", `Released ${name}.`);
  }

  async close() {
    const answer = await confirm({ title: `Close ${this.room}?`, text: `${counted(this.model.peers.size, "peer")} will be put out, and ${counted(this.model.values.size, "key")} cleared. This cannot be undone.`, action: "Close room", reason: true });
    if (answer) await this.act(["rooms", this.room], answer.reason, `Closed ${this.room}.`);
  }

  /** @param {string[]} names @param {string} reason @param {string} done */
  async act(names, reason, done) {
    try {
      await this.api.ask("DELETE", names, { query: { reason } });
      say(done);
      this.soonPoll();
    } catch (error) {
      say(why(error), "failed");
    }
  }

  /** @param {string} key */
  copyKey(key) {
    const state = this.model.get(key);
    return state ? copy(stringify(state.data, "  "), `the value of ${key}`) : undefined;
  }

  copyAll() {
    const keys = this.keys.shown();
    const values = new Map(keys.map((key) => [key, this.model.get(key)?.data ?? null]));
    return copy(stringify(values, "  "), counted(keys.length, "key"));
  }
}

/** A peer's metadata is any text; apps usually put JSON in it. @param {string} text */
function metadata(text) {
  try {
    return json(parse(text), { pretty: true });
  } catch {
    return el("pre", { class: "json", text: short(text) });
  }
}

/**
 * Makes a list anew where it changed, so that what is open or in focus in the others stays.
 * @param {HTMLElement} list
 * @param {{ id: string, text: string, make: () => HTMLElement }[]} items
 * @param {string} rest what stands at the end of a list that is cut, or of an empty one
 */
function relist(list, items, rest) {
  const old = new Map([...list.children].map((child) => [/** @type {HTMLElement} */ (child).dataset["id"], /** @type {HTMLElement} */ (child)]));
  const focus = document.activeElement;
  const lost = focus instanceof HTMLElement && list.contains(focus) ? focus.closest("li")?.dataset["id"] : undefined;
  const made = items.map(({ id, text, make }) => {
    const known = old.get(id);
    if (known && known.dataset["text"] === text) return known;
    const item = make();
    item.dataset["text"] = text;
    const details = item.querySelector("details");
    if (details && known?.querySelector("details")?.open) details.open = true;
    return item;
  });
  const end = !items.length || rest.startsWith("and") ? [el("li", { class: "empty", text: rest })] : [];
  const wanted = [...made, ...end];
  if (wanted.length === list.children.length && wanted.every((item, i) => item === list.children[i])) return;
  list.replaceChildren(...wanted);
  if (lost === undefined) return;
  if (focus instanceof HTMLElement && focus.isConnected) focus.focus({ preventScroll: true });
  else made.find((item) => item.dataset["id"] === lost)?.querySelector("button")?.focus({ preventScroll: true });
}
