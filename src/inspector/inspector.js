// @ts-check
// The page: who looks (a token), what at (a room, or the list of them), and what holds for both.
import { Api, ApiError } from "./api.js";
import { byId, el, fill, put, say, setServerNow, show, why } from "./dom.js";
import { visible } from "./json.js";
import { RoomView } from "./room.js";
import { RoomsView, link } from "./rooms.js";

/** Where the token is kept: until this tab is closed, and nowhere else. */
const TOKEN = "sessionstore-token";
const THEME = "sessionstore-theme";
const SHORTCUTS = "sessionstore-shortcuts";

const main = byId("main", HTMLElement);
const nav = byId("nav", HTMLElement);
const logOutButton = byId("log-out", HTMLButtonElement);

/** What the token allows. */
export class Access {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    /** @type {Set<string>} */
    this.scopes = new Set();
    this.room = "";
    this.sub = "";
  }

  /** Asks the server what it is, and what the token allows. @returns {Promise<import("./json.js").JsonMap>} */
  async refresh() {
    const server = await this.api.get(["server"]);
    const scopes = server.get("scopes");
    this.scopes = new Set(Array.isArray(scopes) ? scopes : []);
    this.room = typeof server.get("room") === "string" ? server.get("room") : "";
    this.sub = typeof server.get("sub") === "string" ? server.get("sub") : "";
    if (typeof server.get("now") === "number") setServerNow(server.get("now"));
    return server;
  }
}

/** @type {RoomsView | RoomView | null} */
let view = null;
/** @type {{ api: Api, access: Access } | null} */
let entered = null;

// ---- what is shown ----

/** @param {HTMLElement} element @param {string} title */
function place(element, title) {
  main.replaceChildren(element);
  document.title = visible(`${title} · SessionStore`);
  element.querySelector("h1")?.focus({ preventScroll: true });
}

function leave() {
  view?.stop();
  view = null;
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}

/** The room that the address names; its part after # never leaves the browser. */
function wantedRoom() {
  const encoded = /^#room=(.*)$/.exec(location.hash)?.[1];
  try {
    return encoded ? decodeURIComponent(encoded) : "";
  } catch {
    return "";
  }
}

function route() {
  if (!entered) return;
  leave();
  const { api, access } = entered;
  const room = wantedRoom();
  logOutButton.hidden = false;
  fill(nav, access.room ? null : el("a", { href: "#", "aria-current": room ? null : "page", text: "Rooms" }), room ? el("span", { "aria-current": "page", text: room }) : null);
  if (room) {
    const opened = (view = new RoomView(api, access, room));
    place(opened.element, room);
  } else {
    const list = (view = new RoomsView(api, access));
    place(list.element, "Rooms");
  }
}

// ---- the token ----

/** Why the token is not taken, for a person. @param {string} name of the error */
const refusal = (name) =>
  name === "TOKEN_EXPIRED"
    ? "This token has expired. Make a new one, and paste it here."
    : "The server does not take this token: it is not one for its API, or signed with another secret.";

/** @param {string} [problem] */
function logIn(problem = "") {
  leave();
  entered = null;
  fill(nav);
  logOutButton.hidden = true;
  const field = el("input", { id: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false", autocapitalize: "off", "aria-describedby": "token-error token-help" });
  const error = el("p", { id: "token-error", class: "error", role: "alert" });
  const button = el("button", { class: "primary", text: "Look" });
  const form = el("form", { class: "panel login", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    button.disabled = true;
    put(error, "");
    enter(field.value.trim()).then((why) => {
      button.disabled = false;
      put(error, why);
      if (!why) return;
      field.value = "";
      field.focus();
    });
  } },
    el("h1", { text: "What goes on in your rooms" }),
    el("label", { for: "token", text: "API token" }), field, error, button,
    el("div", { id: "token-help", class: "quiet" },
      el("p", {}, "Make one where the server's API secret is:"),
      el("pre", { class: "code", tabindex: 0, "aria-label": "Command", text: "sstore token --api --scope read,write,manage" }),
      el("p", { text: "read is enough to look. The token stays in this tab, and is forgotten when you log out or close it." })));
  place(form, "Inspector");
  field.focus();
  if (problem) put(error, problem);
}

/** Tries a token. @param {string} token @returns {Promise<string>} why not, or nothing */
async function enter(token) {
  // Beyond what a header can carry, or what a token has for letters, there is nothing to ask.
  if (!/^[\w.=-]{1,8000}$/.test(token)) return "This is not a token: one has three parts of letters and digits, with dots between.";
  let checking = true;
  const api = new Api(token, (name) => {
    if (checking || entered?.api !== api) return;
    sessionStorage.removeItem(TOKEN);
    logIn(refusal(name));
  });
  const access = new Access(api);
  try {
    await access.refresh();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) sessionStorage.removeItem(TOKEN);
    if (error instanceof ApiError && error.status === 401) return refusal(error.name);
    if (error instanceof ApiError && error.status === 403) return `This token may not look: it needs the scope read. (${error.message})`;
    return why(error);
  } finally {
    checking = false;
  }
  sessionStorage.setItem(TOKEN, token);
  entered = { api, access };
  if (access.room && wantedRoom() !== access.room) history.replaceState(null, "", link(access.room));
  route();
  return "";
}

function logOut() {
  sessionStorage.removeItem(TOKEN);
  history.replaceState(null, "", location.pathname);
  logIn();
  say("Logged out. This tab has forgotten the token.");
}

// ---- light and dark ----

const themes = byId("theme", HTMLSelectElement);
/** @param {string} theme */
function wear(theme) {
  const known = ["light", "dark"].includes(theme) ? theme : "system";
  themes.value = known;
  if (known === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = known;
}
wear(localStorage.getItem(THEME) ?? "system");
themes.addEventListener("change", () => {
  localStorage.setItem(THEME, themes.value);
  wear(themes.value);
});

// ---- the keyboard ----

/** @type {[string, string][]} */
const KEYS = [
  ["?", "This list"],
  ["/", "To the filter"],
  ["p", "Pause and resume"],
  ["r", "To the list of rooms"],
  ["n", "A new key"],
  ["k", "To the keys"],
  ["↑ ↓ Home End", "In the keys: from row to row"],
  ["← →", "In the keys: close and open a branch"],
  ["Enter", "In the keys: show the key, its history and its author"],
  ["e  c  Delete", "In the keys: edit, copy, remove"],
  ["Esc", "Close what is open; empty the filter"],
];

function help() {
  const on = el("input", { type: "checkbox", id: "single", onchange: () => localStorage.setItem(SHORTCUTS, on.checked ? "on" : "off") });
  on.checked = localStorage.getItem(SHORTCUTS) !== "off";
  const rows = KEYS.map(([keys, what]) => el("div", {}, el("dt", {}, ...keys.split(/ +/).flatMap((key) => [el("kbd", { text: key }), " "])), el("dd", { text: what })));
  show(el("dialog", { "aria-labelledby": "help-title" }, el("h2", { id: "help-title", text: "Keyboard" }), el("dl", { class: "keyboard" }, ...rows),
    el("p", {}, on, " ", el("label", { for: "single", text: "Single letters and signs are shortcuts (turn this off if you speak to your computer)" })),
    el("form", { method: "dialog", class: "buttons" }, el("button", { text: "Close", autofocus: true }))));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  const target = event.target instanceof HTMLElement ? event.target : document.body;
  const room = view instanceof RoomView ? view : null;
  if (event.key === "Escape" && target.id === "filter" && view) {
    view.filter.value = "";
    view.search();
    return;
  }
  if (event.key === "Escape" && room?.selected) return room.unselect();
  if (target.matches("input, textarea, select") || localStorage.getItem(SHORTCUTS) === "off") return;
  /** @type {Record<string, () => void>} */
  const acts = {
    "?": help,
    "/": () => view?.filter.focus(),
    p: () => room?.pause(),
    r: () => void (entered && !entered.access.room && (location.hash = "")),
    n: () => room?.mayWrite && room.edit(""),
    k: () => room?.keys.moveTo(room.keys.current),
  };
  const act = acts[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

byId("help", HTMLButtonElement).addEventListener("click", help);
logOutButton.addEventListener("click", logOut);
addEventListener("hashchange", route);
// Not by its address: what stands behind # names the room.
byId("skip", HTMLAnchorElement).addEventListener("click", (event) => (event.preventDefault(), main.focus()));

const kept = sessionStorage.getItem(TOKEN);
if (kept) {
  const why = await enter(kept);
  if (why) logIn(why);
} else logIn();
