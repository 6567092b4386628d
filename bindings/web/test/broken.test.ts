// What breaks: connections, servers, and what they say.
import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Client, SessionStoreError } from "sessionstore";
import { WebSocketServer, type WebSocket as Socket } from "ws";
import { Channel, Room, Watch, WebSocket, failure, inDirectory, until, within } from "./support.js";

test("a request whose answer is lost is sent again and applied once", () =>
  Room.with([], async (room) => {
    const proxy = await room.proxy();
    const { store } = await room.join("ada", { url: proxy.url });
    const bob = await room.join("bob");
    const watch = new Watch();
    bob.store.listen("n", watch);
    await watch.until(null);
    proxy.deaf = true;
    const added = store.add("n", 5);
    await watch.until(5);
    proxy.cut();
    proxy.deaf = false;
    const state = await within("the answer", added);
    assert.deepEqual([state.value, state.version], [5, 1]);
    assert.equal((await bob.store.get("n")).version, 1);
    // The client's own listeners have it, too.
    const own = new Watch();
    store.listen("n", own);
    assert.equal((await own.state()).value, 5);
  }));

test("what is no message for the server is refused, and the connection stays", () =>
  Room.with([], async (room) => {
    const ada = await room.join("ada");
    const states: string[] = [];
    ada.listen({ onState: (state) => states.push(state) });
    assert.equal((await failure(ada.store.set("a", "x".repeat(70_000)))).name, "MESSAGE_TOO_LARGE");
    const watch = new Watch();
    ada.store.listen("a", watch);
    await watch.until(null);
    const keys = Array.from({ length: 1_000 }, (_, nth) => String(nth).padStart(100, "0"));
    const refused = new Promise<string>((resolve) => ada.store.listen({ keys }, { onKeyChanged() {}, onRefused: (error) => resolve(error.name) }));
    assert.equal(await within("the refusal", refused), "MESSAGE_TOO_LARGE");
    await ada.store.set("a", 1);
    await watch.until(1);
    assert.deepEqual(states, []);
  }));

test("while connections are cut again and again, nothing is lost or done twice", () =>
  Room.with([], async (room) => {
    const proxy = await room.proxy();
    const ada = await room.join("ada", { url: proxy.url, requestTimeoutMs: 30_000 });
    const watch = new Watch();
    ada.store.listen({ prefixes: ["n"] }, watch);
    const count = 400;
    const results: number[] = [];
    const versions = new Set<number>();
    let cuts = 0;
    const adds = Array.from({ length: count }, async (_, at) => {
      const state = await ada.store.add("n", 1);
      results.push(at);
      versions.add(state.version);
      if (results.length % 40 === 0) {
        cuts++;
        proxy.cut();
      }
    });
    await within("all sums", Promise.all(adds));
    assert.equal((await ada.store.get("n")).value, count);
    assert.ok(cuts > 5 && proxy.accepted > 1);
    assert.deepEqual(results, [...results].sort((a, b) => a - b), "answered in the order in which it was asked");
    assert.equal(versions.size, count);
    const heard = (await watch.until(count)).filter((state) => !state.isSnapshot).map((state) => state.version);
    assert.deepEqual(heard, [...new Set(heard)].sort((a, b) => a - b), "each change once, in order");
  }));

test("who comes back is told what was missed, and nothing else", () =>
  Room.with([], async (room) => {
    const proxy = await room.proxy();
    const ada = await room.join("ada", { url: proxy.url });
    const bob = await room.join("bob");
    await bob.store.set("stays", 1);
    await bob.store.set("goes", 2);
    await bob.store.set("hand/x", 3);
    const watch = new Watch();
    ada.store.listen({ keys: ["stays", "goes", "comes"], prefixes: ["hand/"] }, watch);
    for (const value of [1, 2, null, 3]) assert.equal((await watch.state()).value, value);
    assert.equal(await watch.take(), "snapshot_end");
    proxy.refuses = true;
    proxy.cut();
    await until(ada, "reconnecting");
    assert.equal(ada.store.cached("stays")!.value, 1, "what is known is still there");
    await bob.store.remove("goes");
    await bob.store.set("comes", 4);
    await bob.store.set("comes", 5);
    await bob.store.remove("hand/x");
    proxy.refuses = false;
    const told = [await watch.state(), await watch.state(), await watch.state()];
    assert.deepEqual(
      told.map(({ key, value, version, isSnapshot }) => [key, value, version, isSnapshot]),
      [["goes", null, 4, false], ["comes", 5, 6, false], ["hand/x", null, 7, false]],
    );
    await ada.store.get("stays");
    assert.equal(watch.peek(), undefined);
    assert.equal(ada.peers().length, 2);
  }));

test("a killed server that has its data comes back with everything", () =>
  inDirectory((directory) =>
    Room.with(["--data-dir", directory], async (room) => {
      const ada = await room.join("ada", { requestTimeoutMs: 30_000 });
      const errors = new Channel<SessionStoreError>();
      ada.listen({ onError: (error) => errors.put(error) });
      const watch = new Watch();
      ada.store.listen("n", watch);
      assert.equal((await watch.state()).value, null);
      await ada.store.add("n", 1);
      const lock = await ada.store.lock("l", { ttlMs: 60_000 });
      const { sessionId } = ada;
      for (let round = 0; round < 3; round++) {
        const sums = Promise.all(Array.from({ length: 20 }, () => ada.store.add("n", 1)));
        await room.server.kill();
        await until(ada, "reconnecting");
        const waits = ada.store.add("n", 1, { lock });
        await room.server.run();
        await within("sums", sums);
        await within("a guarded write", waits);
      }
      assert.equal((await ada.store.get("n")).value, 1 + 3 * 21);
      await watch.until(64);
      assert.ok(lock.isHeld && ada.sessionId === sessionId);
      assert.equal(errors.peek(), undefined);
    }),
  ));

test("a killed server without data is another session: locks, versions and values are gone, and it is said", () =>
  Room.with([], async (room) => {
    const ada = await room.join("ada");
    const errors = new Channel<SessionStoreError>();
    ada.listen({ onError: (error) => errors.put(error) });
    const watch = new Watch();
    ada.store.listen("k", watch);
    await watch.until(null);
    const { version } = await ada.store.set("k", 1);
    await watch.until(1);
    const lock = await ada.store.lock("l", { ttlMs: 60_000 });
    await room.server.kill();
    await until(ada, "reconnecting");
    const versioned = failure(ada.store.setIfVersion("k", 2, version));
    const guarded = failure(ada.store.set("k", 2, { lock }));
    const plain = ada.store.set("other", 3);
    await room.server.run();
    assert.equal((await versioned).name, "SESSION_LOST");
    assert.equal((await guarded).name, "SESSION_LOST");
    assert.equal((await within("a plain set", plain)).version, 1);
    assert.equal((await errors.take()).name, "SESSION_LOST");
    assert.equal(lock.signal.reason.name, "SESSION_LOST");
    assert.ok(!lock.isHeld);
    const [cleared] = await watch.until(null);
    assert.equal(cleared!.cause, "cleared");
  }));

test("a lock is renewed while its holder is connected, and lost before another gets it", () =>
  Room.with([], async (room) => {
    const proxy = await room.proxy();
    const ada = await room.join("ada", { url: proxy.url });
    const bob = await room.join("bob");
    const lock = await ada.store.lock("l", { ttlMs: 1_000 });
    const held = await failure(bob.store.lock("l", { waitMs: 2_500 }));
    assert.equal(held.name, "LOCK_HELD");
    assert.equal(held.current!.value.holder, "ada");
    assert.ok(lock.isHeld, "longer than its time");
    const order: string[] = [];
    lock.signal.addEventListener("abort", () => order.push("lost"));
    proxy.refuses = true;
    proxy.cut();
    const taken = await bob.store.lock("l", { waitMs: 20_000 });
    order.push("taken");
    assert.deepEqual(order, ["lost", "taken"]);
    assert.equal(lock.signal.reason.name, "LOCK_LOST");
    assert.ok(taken.token > lock.token && !lock.isHeld);
    proxy.refuses = false;
    assert.equal((await failure(ada.store.set("k", 1, { lock }))).name, "LOCK_LOST");
    assert.equal((await failure(lock.release())).name, "LOCK_LOST");
    await taken.release();
    assert.ok(!taken.isHeld && !taken.signal.aborted);
    const done = await ada.store.withLock("l", (mine) => ada.store.set("k", 2, { lock: mine }));
    assert.equal(done.value, 2);
    assert.equal((await ada.store.get("$lock/l")).value, null);
  }));

test("time that runs out says what is certain", () =>
  Room.with([], async (room) => {
    const proxy = await room.proxy();
    const ada = await room.join("ada", { url: proxy.url, requestTimeoutMs: 200, maxPending: 3 });
    proxy.deaf = true;
    const [write, read] = await Promise.all([failure(ada.store.set("k", 1)), failure(ada.store.get("k"))]);
    assert.equal(write.name, "OUTCOME_UNKNOWN");
    assert.deepEqual([read.name, read.retryable], ["TIMEOUT", true]);
    proxy.refuses = true;
    proxy.cut();
    await until(ada, "reconnecting");
    const waiting = [1, 2, 3].map((value) => failure(ada.store.set("k", value)));
    assert.equal((await failure(ada.store.set("k", 4))).name, "QUEUE_FULL");
    for (const error of await Promise.all(waiting)) assert.equal(error.name, "TIMEOUT");
    ada.close();
    assert.equal((await failure(ada.store.get("k"))).name, "CLOSED");
    assert.throws(() => ada.store.listen("k", () => {}), { name: "CLOSED" });
    assert.equal((await failure(ada.join())).name, "CLOSED");
  }));

test("another connection with the same peer id is refused, and the room says why", () =>
  Room.with([], async (room) => {
    await room.join("ada");
    const other = room.open("ada", { failFast: true });
    const error = await failure(other.join());
    assert.deepEqual([error.name, error.retryable, other.state], ["PEER_IN_USE", true, "closed"]);
    assert.equal(other.error, error);
  }));

test("a listen set that is too large is refused, and the client is in the room all the same", () =>
  Room.with(["--max-listened-keys", "2"], async (room) => {
    const ada = room.open("ada");
    const many = new Watch();
    ada.store.listen({ keys: ["a", "b", "c"] }, many);
    const told = await many.take("the refusal");
    assert.equal((told as { refused: SessionStoreError }).refused.name, "TOO_MANY_LISTENED_KEYS");
    assert.equal(await many.take(), "dropped");
    const few = new Watch();
    ada.store.listen({ keys: ["a", "b"] }, few);
    await few.until(null);
    await within("joins", ada.join());
  }));

test("who comes back does so under the name and with the metadata that it had last", () =>
  Room.with([], async (room) => {
    const proxy = await room.proxy();
    const ada = await room.join("ada", { url: proxy.url, metadata: "first" });
    const own = () => ada.peers().map(({ name, metadata }) => [name, metadata]);
    const again = async () => {
      proxy.cut();
      await until(ada, "reconnecting");
      await until(ada, "connected");
      // The whole list was told with the join.
      await ada.store.get("k");
      return own();
    };
    await Promise.all([ada.updatePeer({ name: "Ada Lovelace" }), ada.updatePeer({ metadata: "second" })]);
    assert.deepEqual(own(), [["Ada Lovelace", "second"]]);
    assert.deepEqual(await again(), [["Ada Lovelace", "second"]]);
    await ada.updatePeer({ name: "" });
    assert.deepEqual(await again(), [["", "second"]]);
  }));

test("a listen set whose escapes make it long does not keep the client from coming back", () =>
  Room.with([], async (room) => {
    const proxy = await room.proxy();
    const ada = room.open("ada", { url: proxy.url });
    const watch = new Watch();
    // As a query three times as long as in bytes: more than the head of a request may have.
    const keys = Array.from({ length: 22 }, (_, nth) => String.fromCodePoint(0x4e00 + nth).repeat(85));
    ada.store.listen({ keys }, watch);
    for (const _ of keys) await watch.state();
    assert.equal(await watch.take("the end of the snapshot"), "snapshot_end");
    proxy.cut();
    await until(ada, "reconnecting");
    await until(ada, "connected");
    await ada.store.set(keys[21]!, 1);
    await watch.until(1);
  }));

test("an update whose session ends meanwhile begins anew, and overwrites nothing unseen", () =>
  Room.with([], async (room) => {
    const [ada, bob] = await Promise.all([room.join("ada"), room.join("bob")]);
    await ada.store.set("k", "old");
    const seen: unknown[] = [];
    const updated = ada.store.update("k", async (value) => {
      seen.push(value);
      if (seen.length > 1) return `${value}, and mine`;
      await room.server.kill();
      await until(ada, "reconnecting");
      await until(bob, "reconnecting");
      await room.server.run();
      // In the new session it has the version that it had in the old one.
      assert.equal((await bob.store.set("k", "theirs")).version, 1);
      await until(ada, "connected");
      return "mine";
    });
    assert.equal((await within("the update", updated)).value, "theirs, and mine");
    assert.deepEqual(seen, ["old", "theirs"]);
    // The same when it cannot be sent before the session is another.
    let restarted: Promise<void> | undefined;
    const first = ada.store.update("k", async (value) => {
      if (value !== "theirs, and mine") return "again";
      await room.server.kill();
      await until(ada, "reconnecting");
      setImmediate(() => (restarted = room.server.run()));
      return "lost";
    });
    assert.equal((await within("the update", first)).value, "again");
    await restarted;
  }));

for (const [most, settings] of [[2_048, []], [262_144, ["--max-value-bytes", "90000", "--max-store-bytes", "1000000"]]] as const) {
  test(`what waits for the join is held against the server's limit for messages: ${most}`, () =>
    Room.with(["--max-message-bytes", String(most), ...settings], async (room) => {
      const { store } = room.open("ada");
      const large = store.set("large", "x".repeat(most / 3));
      const larger = failure(store.set("larger", "x".repeat(most)));
      const small = store.set("small", 1);
      assert.equal((await larger).name, "MESSAGE_TOO_LARGE");
      assert.equal((await within("an answer", large)).version, 1);
      assert.equal((await within("an answer", small)).version, 2);
    }));
}

/** A server that lets one client join and then says what it is given. */
async function scripted(play: (socket: Socket, query: URLSearchParams) => void, use: (url: string) => Promise<void>): Promise<void> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  server.on("connection", (socket, request) => {
    const query = new URL(request.url!, "http://localhost").searchParams;
    const result = { peer_id: "ada", session_id: "s", revision: 0, returned: false, peer_number: 1, resumes: true };
    socket.send(JSON.stringify({ id: query.get("join"), result }));
    socket.send('{"method":"peer-list","params":{"peers":{}}}');
    play(socket, query);
  });
  try {
    await use(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.clients.forEach((client) => client.terminate());
    server.close();
  }
}

test("whatever a server says does no harm", () => {
  const deep = "[".repeat(100_000);
  const says = [
    "", "nonsense", "[]", "{}", "null", "1", '{"method":1}', '{"method":"on-metadata-change"}', "{", '{"a"', '{"data":]', deep,
    `{"method":"on-metadata-change","params":{"values":[{"key":"k","data":${deep},"change_version":1}]}}`,
    '{"method":"on-metadata-change","params":{"values":[{"key":"","data":1}]}}',
    '{"method":"on-metadata-change","params":{"values":[{"key":7,"data":1,"change_version":1}]}}',
    '{"method":"on-metadata-change","params":{"values":[{"key":"k","change_version":1}]}}',
    '{"method":"on-metadata-change","params":{"values":[{"key":"k","data":nonsense,"change_version":1}]}}',
    '{"method":"on-metadata-change","params":{"values":{"length":1e9}}}',
    '{"method":"on-metadata-change","params":{"__proto__":{"values":[]}}}',
    '{"method":"peer-list","params":{"peers":7}}', '{"method":"peer-list","params":{"peers":{"__proto__":{"peer_id":1}}}}',
    '{"id":"99","result":null}', '{"id":null,"error":{"code":1e99}}', '{"id":"99","error":{"code":202,"message":"too large"}}',
    '{"id":1,"result":{"peer_id":"x"}}', '{"method":"on-peer-leave","params":{"peer_id":"never here"}}',
    '{"method":"on-peer-leave"}', '{"method":"on-listen-revoked","params":{"keys":7}}', '{"method":"on-server-stop","params":{}}',
    '{"method":"on-token-expiring","params":{"expires_at":"now"}}', Buffer.from([1, 2, 3]),
    '{"method":"on-peer-join","params":{"peer_id":"data","info":{"data":"\\u0041"}}}',
    '{"method":"on-metadata-change","params":{"values":[{"key":"k","data":{"__proto__":1},"change_version":9}]}}',
    ' {"method" : "on-metadata-change" , "params" : {"values" : [ { "key":"k","data" :  { "a, b" : [ 1 , "x: y" ] } , "change_version" : 10 } ] } } ',
  ];
  const snapshot = '{"method":"on-metadata-change","params":{"snapshot":true,"values":[{"key":"k","data":null,"change_version":0}]}}';
  return scripted(
    (socket) => [snapshot, ...says].forEach((text) => socket.send(text)),
    async (url) => {
      const client = new Client({ url, room: "room", peerId: "ada", WebSocket });
      const watch = new Watch();
      client.store.listen("k", watch);
      await watch.until(null);
      await watch.take("the end of the snapshot");
      const { value, json } = await watch.state();
      assert.equal(json, '{"__proto__":1}');
      assert.deepEqual(Object.keys(value), ["__proto__"], "a member like any other");
      const spaced = await watch.state();
      assert.equal(spaced.json, '{ "a, b" : [ 1 , "x: y" ] }', "as it was written");
      assert.deepEqual({ ...spaced.value }, { "a, b": [1, "x: y"] });
      assert.equal(client.state, "connected");
      assert.deepEqual(client.peers().map(({ id, metadata }) => [id, metadata]), [["data", "A"]]);
      client.close();
    },
  );
});

test("an answer that cannot be read is an error, and one that never comes a broken connection", () => {
  let connections = 0;
  return scripted(
    (socket) => {
      connections++;
      socket.on("message", (text) => {
        const { id, method } = JSON.parse(String(text));
        if (method === "get-metadata") socket.send(JSON.stringify({ id, result: { nonsense: 1 } }));
      });
    },
    async (url) => {
      const client = new Client({ url, room: "room", heartbeatMs: 20, reconnectMinMs: 1, reconnectMaxMs: 5, WebSocket });
      await client.join();
      assert.equal((await failure(client.store.get("k"))).name, "INTERNAL");
      const lost = new Channel<SessionStoreError>();
      client.listen({ onState: (_, error) => error && lost.put(error) });
      assert.equal((await lost.take("silence")).name, "CONNECTION_LOST");
      await until(client, "connected");
      assert.ok(connections > 1);
      client.close();
    },
  );
});

test("pauses grow until a connection has lasted, also when each attempt joins", (t) => {
  const joined = new Channel<Socket>();
  const pauses: unknown[] = [];
  const heartbeats: (() => void)[] = [];
  const { setTimeout, setInterval } = globalThis;
  t.mock.method(Math, "random", () => 0);
  t.mock.method(globalThis, "setTimeout", (call: () => void, ms?: number) => {
    if (ms! > 2 ** 20) pauses.push(ms! / 2 ** 20);
    return setTimeout(call, ms! > 2 ** 20 ? 0 : ms);
  });
  t.mock.method(globalThis, "setInterval", (call: () => void, ms?: number) => {
    heartbeats.push(call);
    return setInterval(call, ms);
  });
  return scripted(
    (socket) => joined.put(socket),
    async (url) => {
      const client = new Client({ url, room: "room", reconnectMinMs: 3 * 2 ** 20, reconnectMaxMs: 50 * 2 ** 20, WebSocket });
      for (let round = 0; round < 6; round++) {
        const socket = await joined.take();
        await until(client, "connected");
        socket.close(1011);
        await until(client, "reconnecting");
      }
      assert.deepEqual(pauses.splice(0), [3, 6, 12, 24, 48, 50]);
      const socket = await joined.take();
      await until(client, "connected");
      heartbeats.at(-1)!();
      socket.close(1011);
      await until(client, "reconnecting");
      assert.deepEqual(pauses.splice(0), [3]);
      // A server that stops says when to come back, which counts once, and never more than the longest pause.
      for (const comeBackMs of [1e12, 0, 30 * 2 ** 20]) {
        const stops = await joined.take();
        await until(client, "connected");
        if (comeBackMs > 1e9) heartbeats.at(-1)!();
        stops.send(JSON.stringify({ method: "on-server-stop", params: { come_back_ms: comeBackMs } }));
        stops.close(1012);
        await until(client, "reconnecting");
      }
      assert.deepEqual(pauses, [50, 6, 30]);
      client.close();
    },
  );
});

test("a lock that is asked for without a connection lasts from when it was sent", (t) => {
  let lateMs = 0;
  const { now } = Date;
  t.mock.method(Date, "now", () => now() + lateMs);
  const renewed = new Channel<void>();
  return scripted(
    (socket) => {
      socket.on("message", (text) => {
        const { id, method, params } = JSON.parse(String(text));
        if (method === "lock-renew") renewed.put();
        if (method.startsWith("lock-")) socket.send(JSON.stringify({ id, result: { name: params.name, token: 1 } }));
      });
    },
    async (url) => {
      const client = new Client({ url, room: "room", WebSocket });
      const asked = client.store.lock("turn", { ttlMs: 60_000 });
      lateMs = 61_000;
      const lock = await within("the lock", asked);
      assert.equal(lock.isHeld, true);
      await renewed.take();
      client.close();
    },
  );
});

test("a lock that an operator takes away is lost at once, and no other", () =>
  scripted(
    (socket) => {
      let token = 0;
      socket.on("message", (text) => {
        const { id, method, params } = JSON.parse(String(text));
        if (method === "lock-acquire") socket.send(JSON.stringify({ id, result: { name: params.name, token: ++token } }));
        else if (method === "get-metadata") {
          for (const lost of [{ name: "a", token: 2 }, { name: "b", token: 1 }, undefined, null, { name: "a", token: 1 }]) {
            socket.send(JSON.stringify({ method: "on-lock-lost", params: lost }));
          }
          socket.send(JSON.stringify({ id, result: { key: "k", data: null, change_version: 0 } }));
        }
      });
    },
    async (url) => {
      const client = new Client({ url, room: "room", WebSocket });
      const [a, b] = await Promise.all([client.store.lock("a"), client.store.lock("b")]);
      await within("an answer", client.store.get("k"));
      assert.deepEqual([a!.signal.reason?.name, a!.isHeld], ["LOCK_LOST", false]);
      assert.deepEqual([b!.signal.aborted, b!.isHeld], [false, true]);
      client.close();
    },
  ));

test("a fresh token counts from the next connection on, unless it was refused", () => {
  const tokens = new Channel<string | null>();
  return scripted(
    (socket, query) => {
      tokens.put(query.get("token"));
      socket.on("message", (text) => {
        const { id, method, params } = JSON.parse(String(text));
        if (method === "peer-list") socket.send(JSON.stringify({ id, result: { peers: {} } }));
        if (method !== "renew-token") return;
        if (params.token === "refused") socket.send(JSON.stringify({ id, error: { code: 200, message: "no" } }));
        else if (params.token === "unanswered") socket.terminate();
        else socket.send(JSON.stringify({ id, result: { expires_at: 1 } }));
      });
    },
    async (url) => {
      const client = new Client({ url, token: "first", reconnectMinMs: 1, reconnectMaxMs: 5, WebSocket });
      let renewed: Promise<unknown> | undefined;
      client.listen({
        onState: (state) => {
          // As of a page that was asleep: its token has expired meanwhile.
          if (state === "reconnecting") renewed ??= client.renewToken("fresh");
        },
      });
      await client.join();
      assert.equal(await tokens.take(), "first");
      assert.equal((await failure(client.renewToken("refused"))).name, "UNAUTHORIZED");
      void client.renewToken("unanswered").catch(() => {});
      // The connection breaks, and the app hands in another before the next is made.
      assert.equal(await tokens.take(), "fresh");
      await within("an answer", renewed!);
      client.close();
    },
  );
});

/** What a server closes a connection with for good, and what the client says of it. */
const final: [number, string, RegExp][] = [
  [4108, "REPLACED", /its own peer id/],
  // Their reasons are an operator's.
  [4223, "KICKED", /^be kind$/],
  [4224, "ROOM_CLOSED", /^be kind$/],
];

for (const [code, name, says] of final) {
  test(`after a server that closes with ${code} the client is closed, and everybody who waits knows why: ${name}`, () => {
    let connections = 0;
    return scripted(
      (socket) => {
        connections++;
        socket.on("message", (text) => {
          const { id, method } = JSON.parse(String(text));
          if (method === "lock-acquire") socket.send(JSON.stringify({ id, result: { name: "l", token: 1 } }));
          else if (method === "set-metadata") socket.close(code, "be kind");
        });
      },
      async (url) => {
        const client = new Client({ url, room: "room", reconnectMinMs: 1, WebSocket });
        const told = new Channel<[string, SessionStoreError | undefined] | "dropped">();
        client.listen({ onState: (state, error) => told.put([state, error]), onDropped: () => told.put("dropped") });
        const watch = new Watch();
        client.store.listen("k", watch);
        const loop = client.store.states("k").next();
        await within("joins", client.join());
        assert.deepEqual(await told.take(), ["connected", undefined]);
        const lock = await client.store.lock("l");
        const read = failure(client.store.get("k"));
        const written = failure(client.store.set("k", 1));
        const looped = failure(loop);
        const [state, error] = (await told.take("the end")) as [string, SessionStoreError];
        assert.deepEqual([state, error.name, error.code, error.retryable], ["closed", name, code - 4000, false]);
        assert.match(error.message, says);
        assert.equal(await told.take(), "dropped");
        assert.equal(await watch.take(), "dropped");
        assert.equal((await written).name, "OUTCOME_UNKNOWN", "it was sent");
        for (const ended of [read, looped, failure(client.join())]) assert.equal((await ended).name, name);
        assert.deepEqual([lock.signal.reason.name, lock.isHeld], [name, false]);
        assert.equal((await failure(client.store.set("k", 2))).name, "CLOSED");
        assert.equal(client.error, error);
        assert.equal(connections, 1, "it does not come back");
      },
    );
  });
}
