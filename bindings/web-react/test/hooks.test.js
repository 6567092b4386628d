// The hooks in components that are rendered, against a real server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { StrictMode, createElement as h } from "react";
import { renderToString } from "react-dom/server";
import { act, create } from "react-test-renderer";
import { Client, key } from "sessionstore";
import { useConnection, usePeers, useStates, useValue } from "sessionstore-react";
import WebSocket from "ws";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

async function inRoom(play) {
  const program = process.env.SSTORE ?? resolve("../../target/debug/sstore");
  const server = spawn(program, ["serve", "--address", "127.0.0.1", "--port", "0"], { stdio: ["ignore", "pipe", "ignore"] });
  const [url] = await once(createInterface(server.stdout), "line");
  const clients = [];
  try {
    await play((name) => {
      const client = new Client({ url, room: "room", peerId: name, name, WebSocket });
      clients.push(client);
      return client;
    });
  } finally {
    clients.forEach((client) => client.close());
    const ended = once(server, "exit");
    server.kill("SIGKILL");
    await ended;
  }
}

const pinned = key("pinned");

function Room({ client }) {
  const value = useValue(client.store, pinned);
  // A selector that is made anew each time is the same.
  const hands = useStates(client.store, { prefixes: ["hand/"] });
  const peers = usePeers(client);
  const connection = useConnection(client);
  const names = peers.map((peer) => peer.name).join("+");
  return `${connection}: ${value === undefined ? "?" : (value?.text ?? "nothing")}, ${hands.map((state) => state.key).join("+") || "no hands"}, ${names}`;
}

/** Waits until what is rendered is a text. */
async function shows(renderer, text) {
  const last = Date.now() + 30_000;
  while (renderer.toJSON() !== text) {
    if (Date.now() > last) assert.fail(`${renderer.toJSON()} is shown instead of ${text}`);
    await act(() => new Promise((resolve) => setImmediate(resolve)));
  }
}

test("components show what the room holds, and change with it", () =>
  inRoom(async (open) => {
    const ada = open("ada");
    assert.equal(renderToString(h(Room, { client: ada })), "connecting: ?, no hands, ");
    let renderer;
    await act(() => {
      renderer = create(h(Room, { client: ada }));
    });
    await shows(renderer, "connected: nothing, no hands, ada");
    const bob = open("bob");
    await bob.join();
    await shows(renderer, "connected: nothing, no hands, ada+bob");
    await bob.store.set(pinned, { text: "Welcome!" });
    await bob.store.set("hand/bob", true);
    await ada.store.set("hand/ada", true);
    await shows(renderer, "connected: Welcome!, hand/ada+hand/bob, ada+bob");
    await bob.store.remove("hand/bob");
    await ada.store.set(pinned, null);
    await shows(renderer, "connected: nothing, hand/ada, ada+bob");
    await bob.leave();
    await shows(renderer, "connected: nothing, hand/ada, ada");
    await ada.updatePeer({ name: "Ada" });
    await shows(renderer, "connected: nothing, hand/ada, Ada");
    // Another client, with its own room: nothing of the first is left.
    const cleo = open("cleo");
    await act(() => renderer.update(h(Room, { client: cleo })));
    await shows(renderer, "connected: nothing, hand/ada, Ada+cleo");
    assert.equal(ada.store.cached("pinned"), undefined, "nobody listens there any more");
    await act(() => cleo.close());
    await shows(renderer, "closed: ?, no hands, Ada+cleo");
    await act(() => renderer.unmount());
    // A client that is closed already is no reason to fail.
    await act(() => {
      renderer = create(h(Room, { client: ada.close() ?? ada }));
    });
    assert.match(renderer.toJSON(), /^closed: /);
    await act(() => renderer.unmount());
  }));

function Alone({ store, what }) {
  const values = { value: useValue(store, pinned), states: useStates(store, what).map((state) => state.key) };
  return JSON.stringify({ ...values, value: values.value === undefined ? "?" : values.value });
}

test("a selector that names no key has no states, and what is not known any more is not shown", () =>
  inRoom(async (open) => {
    const ada = open("ada");
    const { store } = ada;
    await store.set(pinned, 1);
    let renderer;
    await act(() => {
      renderer = create(h(StrictMode, null, h(Alone, { store, what: { keys: [], prefixes: [] } })));
    });
    await shows(renderer, '{"value":1,"states":[]}');
    await act(() => renderer.update(h(StrictMode, null, h(Alone, { store, what: { keys: [pinned] } }))));
    await shows(renderer, '{"value":1,"states":["pinned"]}');
    await act(() => renderer.update(h(StrictMode, null, h(Alone, { store, what: {} }))));
    await shows(renderer, '{"value":1,"states":[]}');
    await act(() => renderer.update(h(StrictMode, null, h(Alone, { store, what: { prefixes: ["pin"] } }))));
    await shows(renderer, '{"value":1,"states":["pinned"]}');
    ada.close();
    await shows(renderer, '{"value":"?","states":[]}');
    await act(() => renderer.unmount());
  }));
