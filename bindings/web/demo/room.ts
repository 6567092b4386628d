// A room that browsers share: pinned text, spotlight, raised hands, a poll and a board. To copy from.
import { Client, SessionStoreError, key } from "sessionstore";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

const query = new URLSearchParams(location.search);
const name = query.get("name") ?? `Guest ${Math.floor(Math.random() * 1000)}`;
const url = await (await fetch("/server")).text();
const client = new Client({ url, room: query.get("room") ?? "demo", name });
const { store, peerId } = client;

// What everybody sees. The names and types of the keys stand in one place.
const pinned = key<{ text: string; by: string }>("pinned");
const spotlight = key<string>("spotlight");
const board = key<Record<string, string>>("board");

// Each peer has keys of its own, which go when it does: nobody overwrites another's.
const myHand = key<boolean>(`hand/${peerId}`);
const myVote = key<string>(`vote/${peerId}`);

/** Shows why something was refused, instead of doing it. */
async function attempt(act: () => Promise<unknown>): Promise<void> {
  element("error").textContent = "";
  try {
    await act();
  } catch (error) {
    if (!(error instanceof SessionStoreError)) throw error;
    element("error").textContent = `${error.name}: ${error.message}`;
  }
}

element("me").textContent = name;

// Pinned text. What peers write is shown as text, never as HTML.
store.listen(pinned, ({ value }) => {
  element("pinned").textContent = value ? `${value.text} (pinned by ${value.by})` : "Nothing is pinned.";
});
element<HTMLFormElement>("pin").onsubmit = (event) => {
  event.preventDefault();
  const text = String(new FormData(event.target as HTMLFormElement).get("text"));
  void attempt(() => store.set(pinned, text ? { text, by: name } : null));
};

// Who is here, who raised a hand, and who is in the spotlight: a click on a name.
const hands = new Set<string>();
function showPeers(): void {
  const items = client.peers().map((peer) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.textContent = `${peer.name}${hands.has(peer.id) ? " ✋" : ""}`;
    const isInSpotlight = store.cached(spotlight)?.value === peer.id;
    button.className = isInSpotlight ? "spotlight" : "";
    button.setAttribute("aria-pressed", String(isInSpotlight));
    button.onclick = () => attempt(() => store.set(spotlight, isInSpotlight ? null : peer.id));
    item.append(button);
    return item;
  });
  element("peers").replaceChildren(...items);
}
client.listen({
  onPeer: showPeers,
  onState: (state, error) => {
    element("connection").textContent = error ? `${state} (${error.message})` : state;
    showPeers();
  },
});
store.listen(spotlight, showPeers);
store.listen({ prefixes: ["hand/"] }, (state) => {
  const peer = state.key.slice("hand/".length);
  if (state.value) hands.add(peer);
  else hands.delete(peer);
  showPeers();
});
element("hand").onclick = () => attempt(() => store.set(myHand, hands.has(peerId) ? null : true, { bind: true }));

// A poll: each peer's vote is a key, so that a peer votes once, and the votes are counted where they are shown.
const votes = new Map<string, string>();
store.listen<string>({ prefixes: ["vote/"] }, (state) => {
  if (state.value === null) votes.delete(state.key);
  else votes.set(state.key, state.value);
  for (const choice of ["coffee", "tea"]) {
    element(choice).textContent = String([...votes.values()].filter((vote) => vote === choice).length);
  }
});
for (const button of document.querySelectorAll<HTMLButtonElement>("[data-vote]")) {
  button.onclick = () => attempt(() => store.set(myVote, button.dataset.vote!, { bind: true }));
}

// A board: the server merges what each peer changes, so that nobody's field is lost.
const fields = Array.from({ length: 64 }, (_, at) => {
  const field = document.createElement("button");
  field.setAttribute("aria-label", `Field ${at + 1}`);
  field.onclick = () => attempt(() => store.patch(board, { [at]: store.cached(board)?.value?.[at] ? null : "#f80" }));
  return field;
});
element("board").append(...fields);
store.listen(board, ({ value }) => {
  fields.forEach((field, at) => {
    field.style.background = value?.[at] ?? "";
  });
});

// Everybody is told at once that this page is gone.
addEventListener("pagehide", () => client.close());
