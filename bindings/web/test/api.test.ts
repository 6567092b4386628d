// What an app relies on.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Client, JsonText, type PeerChange, SessionStoreError, type State, key, stringify } from "sessionstore";
import { Channel, Room, Watch, WebSocket, failure, inDirectory, within, write } from "./support.js";

test("a listener that was removed is never called again, wherever it was removed", () =>
  Room.with([], async (room) => {
    const { store } = await room.join("ada");
    const told: string[] = [];
    const itself = store.listen("k", {
      onKeyChanged: () => {
        told.push("itself");
        itself.cancel();
        itself.cancel();
      },
      onSnapshotEnd: () => told.push("never"),
      onDropped: () => told.push("dropped"),
    });
    const watch = new Watch();
    // It is told first, and removes the one that would be told next.
    store.listen("k", (state) => state.value === 1 && second.cancel());
    const second = store.listen("k", (state) => told.push(`second ${state.value}`));
    store.listen("k", watch);
    await watch.until(null);
    await store.set("k", 1);
    await store.set("k", 2);
    await watch.until(2);
    assert.deepEqual(told, ["itself", "second null", "dropped"]);
    // What was to be told already is not told after cancel has returned.
    const late = store.listen("k", () => assert.fail("it was cancelled"));
    late.cancel();
    await store.get("k");
    // Nobody listens to this any more, so nothing is known of it.
    const once = new Watch();
    const subscription = store.listen("other", once);
    await once.until(null);
    assert.ok(store.cached("other"));
    subscription.cancel();
    assert.equal(store.cached("other"), undefined);
  }));

test("a listener that throws harms nobody, and it is reported", () =>
  Room.with([], async (room) => {
    const reported = new Channel<unknown>();
    const { store } = await room.join("ada", { reportError: (error) => reported.put(error) });
    const watch = new Watch();
    store.listen("k", () => {
      throw new Error("planted");
    });
    store.listen("k", async () => {
      throw new Error("planted, later");
    });
    store.listen("k", watch);
    assert.equal((await watch.state()).value, null);
    await store.set("k", 1);
    await watch.until(1);
    const messages = [];
    for (let at = 0; at < 4; at++) messages.push(((await reported.take()) as Error).message);
    assert.deepEqual(messages.sort(), ["planted", "planted", "planted, later", "planted, later"]);
  }));

test("success is told after this client's listeners were told, and never inside a call", () =>
  Room.with([], async (room) => {
    const { store } = await room.join("ada");
    const seen: unknown[] = [];
    let calling = true;
    store.listen("k", ({ value }) => {
      assert.ok(!calling);
      seen.push(value);
    });
    const set = store.set("k", 1);
    calling = false;
    assert.equal((await set).value, 1);
    assert.deepEqual(seen.at(-1), 1);
    assert.equal(store.cached("k")!.value, 1);
    assert.equal(store.cached("k"), store.cached("k"), "the same object until it changes");
  }));

test("values keep every digit, cannot be changed, and are JSON or refused", () =>
  Room.with([], async (room) => {
    const { store } = await room.join("ada");
    const big = 2n ** 62n;
    const state = await store.set("k", { big, small: 5n, list: [-big, 1.5] });
    assert.equal(state.json, `{"big":${big},"small":5,"list":[${-big},1.5]}`);
    assert.deepEqual(state.value, { big, small: 5, list: [-big, 1.5] });
    for (const change of [(value: any) => (value.small = 6), (value: any) => value.list.push(1)]) {
      assert.throws(() => change(state.value), TypeError);
    }
    assert.equal((await store.add("n", 2n ** 53n)).value, 2n ** 53n);
    assert.equal((await store.add("n", 1)).value, 2n ** 53n + 1n);
    assert.equal((await store.add("n", -(2n ** 53n))).value, 1);
    const cycle: any[] = [];
    cycle.push(cycle);
    for (const value of [undefined, () => 1, NaN, Infinity, cycle, [NaN]] as any[]) {
      assert.equal((await failure(store.set("k", value))).name, "INVALID_JSON");
    }
    assert.equal(stringify({ date: new Date(0), gone: undefined, list: [undefined], text: new JsonText("1.0") }), '{"date":"1970-01-01T00:00:00.000Z","list":[null],"text":1.0}');
    for (const options of [{ ttlMs: Infinity }, { ifVersion: NaN }]) {
      assert.equal((await failure(store.set("k", 1, options))).name, "INVALID_ARGUMENT", "the value is not to blame");
    }
    for (const name of ["", "a\nb", "x".repeat(257), "\ud800"]) {
      assert.equal((await failure(store.get(name))).name, "INVALID_KEY");
      assert.throws(() => store.listen(name, () => {}), { name: "INVALID_KEY", code: 5, retryable: false });
    }
    assert.throws(() => store.listen({}, () => {}), { name: "INVALID_ARGUMENT" });
    // What a listener could not do to a message, a value cannot either.
    const text = '"}],"__proto__":1,"data":[" \\ 12345678901234567890';
    assert.equal((await store.set("k", text)).value, text);
  }));

test("typed keys, an update until nobody was faster, and a loop over values", () =>
  Room.with([], async (room) => {
    const stakes = key<number>("stakes");
    const clients = await Promise.all(["ada", "bob", "cleo"].map((name) => room.join(name)));
    const rounds = clients.flatMap(({ store }) => Array.from({ length: 5 }, () => store.update(stakes, (value) => (value ?? 0) + 1)));
    await within("updates", Promise.all(rounds));
    const { store } = clients[0]!;
    assert.equal((await store.get(stakes)).value, 15);
    assert.equal((await store.update(stakes, () => undefined)).version, 15);
    await assert.rejects(store.update(stakes, () => { throw new RangeError("planted"); }), RangeError);
    // @ts-expect-error A text is no number.
    void failure(store.set(stakes, "no", { ifVersion: 99 }));
    const seen: (number | null)[] = [];
    for await (const value of store.watch(stakes)) {
      seen.push(value);
      if (value === null) break;
      if (value === 15) await store.set(stakes, 16);
      else if (value === 16) await store.remove(stakes);
    }
    assert.deepEqual(seen, [15, 16, null]);
    assert.equal(store.cached(stakes), undefined, "the listener ended with the loop");
  }));

test("an update whose writer is always late gives up when its time is over, and changes nothing", () =>
  Room.with([], async (room) => {
    const { store } = await room.join("ada");
    const late = await room.join("bob", { requestTimeoutMs: 1_500 });
    let made = 0;
    const always = late.store.update("raced", async () => {
      await store.add("raced", 1);
      made++;
      return "never";
    });
    const error = await failure(always);
    assert.deepEqual([error.name, error.current?.value], ["VERSION_CONFLICT", made]);
    assert.ok(made > 1, "it tried again before it gave up");
    assert.equal((await store.get("raced")).value, made);
  }));

test("a slow loop misses older states of a key, never the newest, and is told how many", () =>
  Room.with([], async (room) => {
    const { store } = await room.join("ada");
    const states = store.states("k")[Symbol.asyncIterator]();
    assert.equal((await states.next()).value!.value, null);
    for (let value = 1; value <= 5; value++) await store.set("k", value);
    const { value, replaced } = (await states.next()).value as State;
    assert.deepEqual([value, replaced], [5, 4]);
    await states.return();
  }));

test("what waits can be given up", () =>
  Room.with([], async (room) => {
    const reason = new Error("given up");
    const abort = (wait: (signal: AbortSignal) => Promise<unknown>) => {
      const controller = new AbortController();
      const ended = assert.rejects(within("given up", wait(controller.signal)), reason);
      controller.abort(reason);
      return ended;
    };
    const nowhere = new Client({ url: "ws://127.0.0.1:9", room: "room", WebSocket });
    await abort((signal) => nowhere.join({ signal }));
    await abort((signal) => nowhere.store.set("k", 1, { signal }));
    await abort((signal) => nowhere.store.get("k", { signal }));
    nowhere.close();
    const [ada, bob, cleo] = await Promise.all(["ada", "bob", "cleo"].map((name) => room.join(name)));
    // Not sent, as it is aborted at once.
    await abort((signal) => ada!.store.set("k", 1, { signal }));
    await assert.rejects(ada!.store.set("k", 1, { signal: AbortSignal.abort(reason) }), reason);
    assert.equal((await ada!.store.get("k")).version, 0);
    // What cannot begin leaves nothing behind.
    const { signal } = new AbortController();
    await assert.rejects(ada!.store.states("", { signal }).next(), { name: "INVALID_KEY" });
    assert.deepEqual(getEventListeners(signal, "abort"), []);
    await abort(async (signal) => {
      for await (const state of ada!.store.states("k", { signal })) assert.ok(state);
    });
    // A lock that is granted when nobody waits any more is given back.
    const lock = await ada!.store.lock("l");
    const controller = new AbortController();
    const waits = bob!.store.lock("l", { waitMs: 60_000, signal: controller.signal });
    await bob!.store.get("k");
    controller.abort(reason);
    await assert.rejects(waits, reason);
    const next = cleo!.store.lock("l", { waitMs: 60_000 });
    await cleo!.store.get("k");
    await lock.release();
    await (await within("the next holder", next)).release();
  }));

test("peers come, change and go; each is told once, with names that mean something to programs", () =>
  Room.with(["--grace", "100ms"], async (room) => {
    const ada = await room.join("ada", { metadata: "m" });
    const told = new Channel<PeerChange>();
    const subscription = ada.listen({ onPeer: (change) => told.put(change) });
    const next = async () => {
      const { type, peer } = await told.take();
      return [type, peer.id, peer.name, peer.metadata];
    };
    const odd = await room.join("data", { name: "__proto__" });
    assert.deepEqual(await next(), ["joined", "data", "__proto__", ""]);
    await odd.updatePeer({ metadata: '{"data":[1,"]"]}' });
    assert.deepEqual(await next(), ["updated", "data", "__proto__", '{"data":[1,"]"]}']);
    assert.equal(odd.peers().find((peer) => peer.id === "data")!.metadata, '{"data":[1,"]"]}');
    const late = await room.join("late");
    assert.deepEqual(await next(), ["joined", "late", "late", ""]);
    assert.deepEqual(late.peers().map((peer) => peer.id), ["ada", "data", "late"]);
    assert.equal(late.peers(), late.peers(), "the same array until it changes");
    // Those who are here already are told to who listens late.
    const first = new Channel<PeerChange>();
    late.listen({ onPeer: (change) => first.put(change) });
    assert.deepEqual([(await first.take()).peer.id, (await first.take()).peer.id].sort(), ["ada", "data"]);
    await odd.leave();
    assert.deepEqual(await next(), ["left", "data", "__proto__", '{"data":[1,"]"]}']);
    assert.equal(odd.state, "closed");
    late.close();
    assert.deepEqual(await next(), ["left", "late", "late", ""]);
    subscription.cancel();
  }));

test("peers whose ids look alike are told apart", () =>
  Room.with([], async (room) => {
    const ids = ["aB", "a_b", "data", "peer_id", "user1", "user_1"];
    for (const id of ids) await room.join(id);
    const late = await room.join("x_");
    assert.deepEqual(late.peers().map(({ id, name, role }) => [id, name, role]), [...ids, "x_"].map((id) => [id, id, "guest"]));
  }));

test("whoever shows the peers is told of every change, the own ones included", () =>
  Room.with([], async (room) => {
    const ada = await room.join("ada");
    const told = new Channel<string>();
    ada.listen({ onPeers: () => told.put(ada.peers().map(({ name }) => name).join()), onPeer: ({ peer }) => assert.notEqual(peer.id, "ada") });
    await ada.updatePeer({ name: "Ada" });
    assert.equal(await told.take(), "Ada");
    const bob = await room.join("bob");
    assert.equal(await told.take(), "Ada,bob");
    await bob.leave();
    assert.equal(await told.take(), "Ada");
  }));

const base64 = (value: object | Buffer) => (Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value))).toString("base64url");

function token(secret: string, claims: object): string {
  const signed = `${base64({ alg: "HS256", typ: "JWT" })}.${base64(claims)}`;
  return `${signed}.${base64(createHmac("sha256", secret).update(signed).digest())}`;
}

test("tokens: wrong ones end the client, one that expires is renewed", () =>
  inDirectory(async (directory) => {
    const secret = "0123456789abcdef0123456789abcdef";
    await Room.with(["--secret-file", write(directory, "secret", secret)], async (room) => {
      const now = Math.floor(Date.now() / 1000);
      const claims = { room_id: "room", user_id: "u1", role: "host", exp: now + 20 };
      for (const wrong of [undefined, "nonsense", token("another", claims)]) {
        const client = room.open("bob", wrong === undefined ? {} : { token: wrong });
        const error = await failure(client.join());
        assert.deepEqual([error.name, client.state], ["UNAUTHORIZED", "closed"]);
        assert.ok(!error.message.includes(wrong ?? "?"), "no token in a message");
      }
      assert.equal((await failure(room.open("bob", { token: token(secret, { ...claims, exp: now - 100 }) }).join())).name, "UNAUTHORIZED");
      const ada = room.open("ada", { token: token(secret, claims) });
      const expiring = new Channel<number>();
      ada.listen({ onTokenExpiring: (at) => expiring.put(at) });
      await within("joins", ada.join());
      assert.ok((await expiring.take()) >= claims.exp * 1000);
      await ada.renewToken(token(secret, { ...claims, exp: now + 3600 }));
      assert.equal((await failure(ada.renewToken("nonsense"))).name, "UNAUTHORIZED");
      assert.equal((await ada.store.set("k", 1)).author!.userId, "u1");
    });
  }));

test("a fresh token with a lesser role ends the listeners that it may not have, and no others", () =>
  inDirectory(async (directory) => {
    const secret = "0123456789abcdef0123456789abcdef";
    const rules = '[[rule]]\nroles = ["host"]\nkeys = ["*"]\nallow = ["read", "write", "create"]\n[[rule]]\nroles = ["guest"]\nkeys = ["open"]\nallow = ["read"]\n';
    const settings = ["--secret-file", write(directory, "secret", secret), "--rules", write(directory, "rules.toml", rules)];
    await Room.with(settings, async (room) => {
      const exp = Math.floor(Date.now() / 1000) + 3600;
      const as = (role: string, user: string) => token(secret, { room_id: "room", user_id: user, role, exp });
      const ada = await room.join("ada", { token: as("host", "u1") });
      const [open, closed] = [new Watch(), new Watch()];
      ada.store.listen("open", open);
      ada.store.listen("closed", closed);
      for (const watch of [open, closed]) {
        await watch.until(null);
        assert.equal(await watch.take(), "snapshot_end");
      }
      const loop = ada.store.states("closed");
      assert.equal((await loop.next()).value!.value, null);
      assert.deepEqual(ada.peers().map(({ role }) => role), ["host"]);
      await ada.renewToken(as("guest", "u1"));
      assert.deepEqual(ada.peers().map(({ role }) => role), ["guest"]);
      const told = await closed.take("the refusal");
      assert.equal((told as { refused: SessionStoreError }).refused.name, "FORBIDDEN");
      assert.equal(await closed.take(), "dropped");
      assert.equal((await failure(loop.next())).name, "FORBIDDEN");
      assert.equal((await failure(ada.store.set("open", 1))).name, "FORBIDDEN");
      const bob = await room.join("bob", { token: as("host", "u2") });
      await bob.store.set("closed", 1);
      await bob.store.set("open", 2);
      assert.equal((await open.state()).value, 2);
      assert.equal(closed.peek(), undefined);
    });
  }));

test("options are checked before anything is sent", () => {
  const wrong: [object, string][] = [
    [{ url: "http://127.0.0.1" }, "INVALID_URL"],
    [{ url: "nonsense" }, "INVALID_URL"],
    [{ url: "ws://a:b@127.0.0.1" }, "INVALID_URL"],
    [{ url: "ws://127.0.0.1/?a=b" }, "INVALID_URL"],
    [{ url: "ws://127.0.0.1:99999" }, "INVALID_URL"],
    [{ room: "" }, "INVALID_ROOM"],
    [{ room: "x".repeat(129) }, "INVALID_ROOM"],
    [{ room: undefined }, "INVALID_ROOM"],
    [{ peerId: "a\u0000b" }, "INVALID_PEER"],
    [{ name: "ü".repeat(129) }, "INVALID_PEER"],
    [{ metadata: "x".repeat(2049) }, "INVALID_PEER"],
    [{ metadata: null }, "INVALID_PEER"],
    [{ metadata: { theme: "dark" } }, "INVALID_PEER"],
    [{ name: 5 }, "INVALID_PEER"],
    ...["requestTimeoutMs", "reconnectMinMs", "reconnectMaxMs", "heartbeatMs", "maxPending"].flatMap((name) =>
      [0, -1, NaN, Infinity, 2 ** 31].map((wrong): [object, string] => [{ [name]: wrong }, "INVALID_ARGUMENT"]),
    ),
  ];
  for (const [options, name] of wrong) {
    assert.throws(() => new Client({ url: "ws://127.0.0.1:9", room: "room", WebSocket, ...options }), (error: unknown) => {
      assert.ok(error instanceof SessionStoreError);
      assert.equal(error.name, name, JSON.stringify(options));
      return true;
    });
  }
});
