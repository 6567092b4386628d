// A room that browsers share: pinned text, spotlight, raised hands, a poll and a board. To copy from.
import { Client, SessionStoreError, key } from "sessionstore";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

// Why something cannot be done is shown, and nothing is done.
function explain(error: unknown): void {
  element("error").textContent = error instanceof SessionStoreError ? `${error.name}: ${error.message}` : String(error);
}
addEventListener("error", (event) => explain(event.error));
addEventListener("unhandledrejection", (event) => explain(event.reason));

/** Does what a button is for. */
async function attempt(act: () => Promise<unknown>): Promise<void> {
  element("error").textContent = "";
  await act().catch(explain);
}

// The name is kept for when this page is loaded again; the peer is another one then.
const tidy = (name: string) => [...name.replace(/\p{C}/gu, " ").trim()].slice(0, 40).join("");
const query = new URLSearchParams(location.search);
let name = tidy(sessionStorage.getItem("name") ?? query.get("name") ?? "") || `Guest ${Math.floor(Math.random() * 1000)}`;

const url = await (await fetch("/server")).text();
const client = new Client({ url, room: query.get("room") || "demo", name });
const { store, peerId } = client;

// What everybody sees. The names and types of the keys stand in one place.
const pinned = key<{ text: string; by: string }>("pinned");
const spotlight = key<string>("spotlight");
const board = key<Record<string, number>>("board");

// Each peer has keys of its own, which go when it does: nobody overwrites another's.
const myHand = key<boolean>(`hand/${peerId}`);
const myVote = key<string>(`vote/${peerId}`);

// ------------------------------------------------------------------ name and connection

const me = element<HTMLFormElement>("me");
const nameField = me.elements.namedItem("name") as HTMLInputElement;
nameField.value = name;
me.onsubmit = (event) => {
  event.preventDefault();
  name = tidy(nameField.value) || name;
  nameField.value = name;
  sessionStorage.setItem("name", name);
  void attempt(() => client.updatePeer({ name })).then(showPeers);
};

client.listen({
  onState: (state, error) => {
    element("connection").textContent = error ? `${state} (${error.message})` : state;
    showPeers();
  },
  onPeer: showPeers,
});

// ------------------------------------------------------------------ pinned text

// What peers write is shown as text, never as HTML.
store.listen(pinned, ({ value }) => {
  element("pinned").textContent = value ? `${value.text} (pinned by ${value.by})` : "Nothing is pinned.";
});
const pin = element<HTMLFormElement>("pin");
pin.onsubmit = (event) => {
  event.preventDefault();
  const text = String(new FormData(pin).get("text"));
  if (text) void attempt(() => store.set(pinned, { text, by: name }).then(() => pin.reset()));
};
element("unpin").onclick = () => attempt(() => store.remove(pinned));

// ------------------------------------------------------------------ who is here, spotlight, raised hands

const hands = new Set<string>();
const buttons = new Map<string, HTMLButtonElement>();

function showPeers(): void {
  const inSpotlight = store.cached(spotlight)?.value;
  const peers = [...client.peers()].sort((a, b) => a.joinedAt - b.joinedAt);
  element("spotlight").textContent = peers.find((peer) => peer.id === inSpotlight)?.name ?? "nobody";
  // A button stays the same one while its peer is here, so that it keeps the focus.
  for (const [id, button] of buttons) {
    if (peers.some((peer) => peer.id === id)) continue;
    button.parentElement!.remove();
    buttons.delete(id);
  }
  for (const peer of peers) {
    const button = buttons.get(peer.id) ?? addPeer(peer.id);
    button.textContent = `${peer.name}${peer.id === peerId ? " (you)" : ""}${hands.has(peer.id) ? " ✋" : ""}`;
    button.setAttribute("aria-pressed", String(peer.id === inSpotlight));
  }
}

function addPeer(id: string): HTMLButtonElement {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.onclick = () => attempt(() => store.set(spotlight, store.cached(spotlight)?.value === id ? null : id));
  item.append(button);
  element("peers").append(item);
  buttons.set(id, button);
  return button;
}

store.listen(spotlight, showPeers);
store.listen({ prefixes: ["hand/"] }, (state) => {
  const id = state.key.slice("hand/".length);
  if (state.value) hands.add(id);
  else hands.delete(id);
  element("hand").setAttribute("aria-pressed", String(hands.has(peerId)));
  showPeers();
});
element("hand").onclick = () => attempt(() => store.set(myHand, hands.has(peerId) ? null : true, { bind: true }));

// ------------------------------------------------------------------ poll

// Each peer's vote is a key, so that a peer votes once, and the votes are counted where they are shown.
const votes = new Map<string, string>();
const choices = document.querySelectorAll<HTMLButtonElement>("[data-vote]");
store.listen<string>({ prefixes: ["vote/"] }, (state) => {
  if (state.value === null) votes.delete(state.key);
  else votes.set(state.key, state.value);
  for (const button of choices) {
    const choice = button.dataset.vote!;
    const count = [...votes.values()].filter((vote) => vote === choice).length;
    element(choice).textContent = String(count);
    element<HTMLProgressElement>(`${choice}-bar`).value = count / (votes.size || 1);
    button.setAttribute("aria-pressed", String(votes.get(myVote.name) === choice));
  }
});
for (const button of choices) {
  button.onclick = () => attempt(() => store.set(myVote, button.dataset.vote!, { bind: true }));
}

// ------------------------------------------------------------------ board

// The server merges what each peer changes, so that nobody's field is lost. A field holds a colour: its hue.
const myHue = parseInt(peerId.slice(0, 6), 16) % 360;
const fields = Array.from({ length: 64 }, (_, at) => {
  const field = document.createElement("button");
  field.setAttribute("aria-label", `Row ${Math.floor(at / 8) + 1}, column ${(at % 8) + 1}`);
  field.onclick = () => attempt(() => store.patch(board, { [at]: store.cached(board)?.value?.[at] === undefined ? myHue : null }));
  return field;
});
element("board").append(...fields);
store.listen(board, ({ value }) => {
  fields.forEach((field, at) => {
    const hue = value?.[at];
    field.style.background = hue === undefined ? "" : `hsl(${Number(hue)} 75% 50%)`;
    field.setAttribute("aria-pressed", String(hue !== undefined));
  });
});

// Everybody is told at once that this page is gone. One that a browser kept and shows again begins anew.
addEventListener("pagehide", () => client.close());
addEventListener("pageshow", (event) => event.persisted && location.reload());
