// What an operator does to a room by the server's HTTP API, as an app notices it.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Author, PeerChange, SessionStoreError } from "sessionstore";
import { Channel, Room, Watch, failure, inDirectory, runSstore, until, within, write } from "./support.js";

/** What an operator with a token asks of the API, below `/v1/rooms/room`. Gives the body of the answer. */
type Ask = (method: string, path: string, body?: object) => Promise<any>;

/** A room on a server that takes operators, who is Olga or who they say. */
const operated = (play: (room: Room, olga: Ask, nameless: Ask) => Promise<void>): Promise<void> =>
  inDirectory(async (directory) => {
    const secret = write(directory, "secret", "an API secret of these tests, and of nothing else");
    const sign = (...who: string[]) =>
      runSstore("token", "--api", "--scope", "read,write,manage", "--api-secret-file", secret, ...who).trim();
    await Room.with(["--api-secret-file", secret], (room) => {
      const asks = (token: string): Ask => async (method, path, body) => {
        const url = `${room.server.url.replace("ws:", "http:")}/v1/rooms/${room.name}${path}`;
        const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
        const response = await within("an answer", fetch(url, { method, headers, ...(body && { body: JSON.stringify(body) }) }));
        const text = await response.text();
        assert.ok(response.ok, `${method} ${path}: ${text}`);
        return text && JSON.parse(text);
      };
      return play(room, asks(sign("--user", "u-olga", "--name", "Olga")), asks(sign()));
    });
  });

const OLGA: Author = { peerId: "", userId: "u-olga", name: "Olga" };

test("what an operator writes is told with its author, who has no peer", () =>
  operated(async (room, olga, nameless) => {
    const ada = await room.join("ada");
    const watch = new Watch();
    ada.store.listen("pinned", watch);
    assert.equal((await watch.state()).author, undefined, "nobody set it yet");
    assert.equal(await watch.take(), "snapshot_end");
    assert.deepEqual(await olga("PUT", "/keys/pinned", { data: "Welcome" }), {
      key: "pinned", data: "Welcome", change_version: 1, updated_by: "", author: { user_id: "u-olga", name: "Olga" },
      updated_at: (await ada.store.get("pinned")).updatedAt,
    });
    const told = await watch.state();
    assert.deepEqual([told.value, told.version, told.cause, told.isSnapshot, told.author], ["Welcome", 1, "written", false, OLGA]);
    // However it is asked: by a get, out of the cache, by a late listener, as what a refused write met.
    assert.deepEqual((await ada.store.get("pinned")).author, OLGA);
    assert.deepEqual(ada.store.cached("pinned")!.author, OLGA);
    const late = new Watch();
    (await room.join("bob")).store.listen("pinned", late);
    assert.deepEqual((await late.state()).author, OLGA);
    assert.deepEqual((await failure(ada.store.setIfVersion("pinned", "mine", 0))).current?.author, OLGA);
    // Another operator has the same empty id, and is somebody else all the same.
    await nameless("PUT", "/keys/pinned", { data: "Hello" });
    assert.deepEqual((await watch.state()).author, { peerId: "", userId: "api", name: "" });
    await olga("DELETE", "/keys/pinned");
    const gone = await watch.state();
    assert.deepEqual([gone.value, gone.cause, gone.author], [null, "written", OLGA]);
    // A peer's own is told as always.
    assert.deepEqual((await ada.store.set("pinned", "by ada")).author, { peerId: "ada", userId: "", name: "ada" });
  }));

test("a lock that an operator takes is lost long before its next renewal", () =>
  operated(async (room, olga) => {
    const ada = await room.join("ada");
    const lock = await ada.store.lock("presenter", { ttlMs: 300_000 });
    const lost = new Promise((resolve) => lock.signal.addEventListener("abort", () => resolve(lock.signal.reason.name)));
    await olga("DELETE", "/locks/presenter");
    assert.equal(await within("the loss", lost), "LOCK_LOST");
    assert.ok(!lock.isHeld);
    await (await ada.store.lock("presenter")).release();
  }));

test("who comes first into a room that was prepared finds its values, and who prepared them", () =>
  operated(async (room, olga) => {
    const { session_id } = await olga("POST", "", { values: { pinned: "Welcome", quiz: { open: false } } });
    const { store, sessionId } = await room.join("ada");
    const { states } = await store.read({ prefixes: [""] });
    assert.deepEqual(states.map(({ key, value, author }) => [key, value, author]), [["pinned", "Welcome", OLGA], ["quiz", { open: false }, OLGA]]);
    assert.equal(sessionId, session_id);
  }));

const ends: [string, string, string, boolean][] = [
  ["a peer that is kicked", "/peers/ada?reason=be%20kind", "KICKED", false],
  ["everybody in a room that is closed", "?reason=it%20is%20late", "ROOM_CLOSED", true],
];

for (const [who, path, name, isForAll] of ends) {
  test(`${who} is told ${name} and does not come back`, () =>
    operated(async (room, olga) => {
      const proxy = await room.proxy();
      const ada = await room.join("ada", { url: proxy.url });
      const bob = await room.join("bob");
      const [watch, states, seen] = [new Watch(), new Channel<[string, SessionStoreError | undefined]>(), new Channel<PeerChange>()];
      ada.listen({ onState: (state, error) => states.put([state, error]) });
      bob.listen({ onPeer: (change) => seen.put(change) });
      assert.equal((await seen.take()).type, "joined");
      ada.store.listen("hand/ada", watch);
      await watch.until(null);
      assert.equal(await watch.take(), "snapshot_end");
      await ada.store.set("hand/ada", true, { bind: true });
      await watch.until(true);
      const watches = async () => {
        for await (const { key } of ada.store.states("hand/ada")) assert.equal(key, "hand/ada");
      };
      const loop = failure(watches());
      const lock = await ada.store.lock("l");
      const line = failure(ada.store.lock("l", { waitMs: 60_000 }));

      await olga("DELETE", path);
      const [state, error] = await states.take();
      assert.deepEqual([state, error?.name, ada.state, ada.error], ["closed", name, "closed", error]);
      assert.equal(error?.message, decodeURIComponent(path.split("=")[1]!), "the reason is the operator's");
      assert.equal(await watch.take(), "dropped");
      for (const ended of [loop, line, failure(ada.join())]) assert.equal((await ended).name, name);
      assert.deepEqual([lock.isHeld, lock.signal.reason.name], [false, name]);
      assert.equal((await failure(ada.store.set("k", 1))).name, "CLOSED");

      if (isForAll) {
        await until(bob, "closed");
        assert.equal(bob.error?.name, name);
      } else {
        const left = await seen.take();
        assert.deepEqual([left.type, left.peer.id, bob.state], ["left", "ada", "connected"]);
        assert.equal((await bob.store.get("hand/ada")).value, null, "what was bound to it has gone with it");
        assert.deepEqual(bob.peers().map((peer) => peer.id), ["bob"]);
      }
      assert.equal(proxy.accepted, 1, "it did not try again");
      // Another client may join again: in the same session after a kick, in a new one after a closing.
      const again = await room.join("ada");
      assert.equal(again.sessionId === ada.sessionId, !isForAll);
    }));
}
