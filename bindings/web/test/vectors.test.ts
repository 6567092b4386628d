// Plays tests/vectors, as tests/vectors/README.md says.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Client, ErrorCode, JsonText, type Lock, type Peer, type Selector, SessionStoreError, type State, type States, type Store, type Subscription, type Usage } from "sessionstore";
import { Room, Watch, failure, inDirectory, read, write } from "./support.js";

const vectors = (name: string): any => JSON.parse(read(`tests/vectors/${name}`));

/** The members of an object, taken out one by one: what is left at the end nobody knew. */
class Members {
  private readonly left: Map<string, any>;
  constructor(readonly of: string, members: object) {
    this.left = new Map(Object.entries(members));
  }

  take(name: string): any {
    assert.ok(this.left.has(name), `${this.of}: there is no ${name}`);
    return this.maybe(name);
  }

  maybe(name: string): any {
    const value = this.left.get(name);
    this.left.delete(name);
    return value;
  }

  done(): void {
    assert.deepEqual([...this.left.keys()], [], `${this.of}: not known`);
  }
}

test("errors are those of the table, and no others", () => {
  const expected = vectors("errors.json");
  assert.deepEqual(ErrorCode, Object.fromEntries(expected.map((one: any) => [one.name, one.number])));
  const Made = SessionStoreError as unknown as new (name: string) => SessionStoreError;
  for (const { name, number, retryable } of expected) {
    const error = new Made(name);
    assert.deepEqual([error.name, error.code, error.retryable], [name, number, retryable]);
    assert.ok(error.message && error instanceof Error && error.stack);
    if (!retryable) assert.doesNotMatch(error.message, /try again/);
  }
});

function lookAt(vector: any, state: State): void {
  const { name } = vector;
  assert.equal(state.json, vector.stored ?? vector.json, name);
  const { value } = state;
  const isNumber = typeof value === "number" || typeof value === "bigint";
  const kind =
    value === null ? "null" : Array.isArray(value) ? "array" : isNumber ? (/^-?\d+$/.test(state.json) ? "integer" : "number") : typeof value;
  assert.equal(kind, vector.kind, name);
  assert.equal(value === null, vector.absent ?? false, name);
  assert.equal(typeof value === "string" ? value : undefined, vector.string, name);
  assert.equal(typeof value === "boolean" ? value : undefined, vector.boolean, name);
  assert.equal(isNumber ? Number(value) : undefined, vector.number, name);
  if (vector.integer !== undefined) {
    assert.equal(String(value), vector.integer, name);
    assert.equal(typeof value, Number.isSafeInteger(Number(vector.integer)) ? "number" : "bigint", name);
  }
  if (!isNumber && value !== null) assert.deepEqual(value, JSON.parse(vector.json), name);
}

test("values", () =>
  Room.with([], async (room) => {
    const { values, refused } = vectors("values.json");
    const peers: { store: Store; watch: Watch }[] = [];
    for (const name of ["ada", "bob"]) {
      const { store } = await room.join(name);
      const watch = new Watch();
      store.listen("value", watch);
      assert.equal((await watch.state()).value, null);
      assert.equal(await watch.take(), "snapshot_end");
      peers.push({ store, watch });
    }
    const ada = peers[0]!.store;
    for (const vector of values) {
      await ada.set("value", "before");
      lookAt(vector, await ada.set("value", new JsonText(vector.json)));
      for (const { store, watch } of peers) {
        assert.equal((await watch.state()).value, "before", vector.name);
        const told = await watch.state();
        lookAt(vector, told);
        lookAt(vector, await store.get("value"));
        lookAt(vector, store.cached("value")!);
        assert.deepEqual(await store.keys(), vector.absent ? [] : ["value"], vector.name);
      }
      if (vector.absent) continue;
      // Through the types of the language and back.
      const again = await ada.set("value", (await ada.get("value")).value);
      assert.deepEqual(again.value, (await ada.get("value")).value, vector.name);
      for (const { watch } of peers) assert.deepEqual((await watch.state()).value, again.value, vector.name);
    }
    for (const vector of refused) {
      const set = async () => ada.set("other", vector.json === "NaN" ? NaN : new JsonText(vector.json));
      assert.equal((await failure(set())).name, vector.error, vector.name);
      assert.equal((await ada.get("other")).value, null, vector.name);
    }
  }));

interface Player {
  client: Client;
  watches: Map<string, { watch: Watch; subscription: Subscription }>;
  locks: Map<string, Lock>;
  left: boolean;
}

async function settings(members: Members, directory: string): Promise<string[]> {
  const settings = [];
  for (const name of ["max_value_bytes", "max_keys", "max_store_bytes", "max_listened_keys", "max_peers"]) {
    const value = members.maybe(name);
    if (value !== undefined) settings.push(`--${name.replaceAll("_", "-")}`, String(value));
  }
  const rules = members.maybe("rules");
  if (rules !== undefined) settings.push("--rules", write(directory, "rules.toml", rules));
  members.done();
  return settings;
}

function compare(members: Members, state: State | null | undefined): void {
  assert.ok(state, members.of);
  assert.equal(state.key, members.take("key"), members.of);
  assert.equal(state.json, members.take("json"), members.of);
  const version = members.maybe("version");
  if (version !== undefined) assert.equal(state.version, version, members.of);
  const expires = members.maybe("expires");
  if (expires !== undefined) assert.equal(state.expiresAt !== undefined, expires, members.of);
  const author = members.maybe("author");
  if (author !== undefined) assert.equal(state.author?.peerId ?? null, author, members.of);
  const userId = members.maybe("user_id");
  if (userId !== undefined) assert.equal(state.author?.userId, userId, members.of);
}

function compareAll(of: string, expected: any[], states: readonly (State | undefined)[]): void {
  assert.equal(states.length, expected.length, of);
  expected.forEach((one, at) => {
    const members = new Members(`${of}: ${JSON.stringify(one)}`, one);
    compare(members, states[at]);
    members.done();
  });
}

/** Does something, and compares how it ends with the members that say so. */
async function outcome(members: Members, act: () => unknown): Promise<void> {
  const expected = members.maybe("error");
  let result: unknown;
  try {
    result = await act();
  } catch (error) {
    assert.ok(error instanceof SessionStoreError, `${members.of}: ${error}`);
    assert.equal(error.name, expected, `${members.of}: ${error.message}`);
    const current = members.maybe("current");
    if (current) compareAll(members.of, [current], [error.current]);
    for (const part of ["check", "write"] as const) {
      const at = members.maybe(part);
      if (at !== undefined) assert.equal(error[part], at, members.of);
    }
    return;
  }
  assert.equal(expected, undefined, `${members.of}: it succeeded`);
  const state = members.maybe("state");
  if (state === null) assert.equal(result, undefined, members.of);
  else if (state) compareAll(members.of, [state], [result as State]);
  const states = members.maybe("states");
  if (states) compareAll(members.of, states, (result as States).states);
  const keys = members.maybe("keys");
  if (keys) assert.deepEqual(result, keys, members.of);
  const peers = members.maybe("peers");
  if (peers) assert.deepEqual((result as Peer[]).map((peer) => peer.id), peers, members.of);
  const usage = members.maybe("usage");
  if (usage) {
    const { revision, keys, maxKeys, bytes, maxBytes, maxValueBytes } = result as Usage;
    const found: any = { revision, keys, max_keys: maxKeys, bytes, max_bytes: maxBytes, max_value_bytes: maxValueBytes };
    for (const [name, value] of Object.entries(usage)) assert.equal(found[name], value, `${members.of}: ${name}`);
  }
}

const selector = (members: Members): Selector => ({
  keys: members.maybe("keys") ?? [],
  prefixes: [...(members.maybe("prefixes") ?? []), ...(members.maybe("all") ? [""] : [])],
});

function writeOf(members: Members, player: Player): any {
  const operation: string = members.take("operation");
  const json = members.maybe("json");
  const name = members.maybe("lock");
  const [bound, unbound] = [members.maybe("bound"), members.maybe("unbound")];
  const [keep, never] = [members.maybe("keep_expiry"), members.maybe("never_expires")];
  return {
    key: members.take("key"),
    operation: operation.replace("_", "-"),
    value: json === undefined ? undefined : new JsonText(json),
    cap: members.maybe("cap"),
    ifVersion: members.maybe("if_version"),
    ttlMs: members.maybe("ttl_ms") ?? (keep ? "keep" : never ? "never" : undefined),
    bind: bound ? true : unbound ? false : undefined,
    lock: name === undefined ? undefined : player.locks.get(name),
  };
}

function checkOf(members: Members, player: Player): any {
  const lock = members.maybe("lock");
  if (lock !== undefined) return { lock: player.locks.get(lock)! };
  const key = members.take("key");
  const equals = members.maybe("equals");
  const version = members.maybe("version");
  const check =
    version !== undefined
      ? { key, version }
      : equals !== undefined
        ? { key, equals: new JsonText(equals) }
        : members.maybe("exists")
          ? { key, exists: true }
          : members.take("absent") && { key, exists: false };
  members.done();
  return check;
}

async function act(members: Members, room: Room, peer: string, players: Map<string, Player>): Promise<void> {
  const action = members.take("do");
  if (action === "join") {
    const options: any = { failFast: true };
    const role = members.maybe("role");
    const userId = members.maybe("user_id");
    if (role !== undefined) options.role = role;
    if (userId !== undefined) options.userId = userId;
    return outcome(members, async () => {
      const client = await room.join(peer, options);
      players.set(peer, { client, watches: new Map(), locks: new Map(), left: false });
    });
  }
  const player = players.get(peer)!;
  const { client, watches, locks } = player;
  const { store } = client;
  const actions: Record<string, () => unknown> = {
    leave: () => outcome(members, () => client.leave().then(() => (player.left = true))),
    listen: () => {
      const name = members.take("as");
      const what = selector(members);
      const watch = new Watch();
      return outcome(members, () => void watches.set(name, { watch, subscription: store.listen(what, watch) }));
    },
    cancel: () => {
      const { subscription } = watches.get(members.take("as"))!;
      return outcome(members, () => subscription.cancel());
    },
    set: () => {
      const [key, json] = [members.take("key"), members.take("json")];
      return outcome(members, () => store.set(key, new JsonText(json)));
    },
    set_if_version: () => {
      const [key, json, version] = [members.take("key"), members.take("json"), members.take("version")];
      return outcome(members, () => store.setIfVersion(key, new JsonText(json), version));
    },
    remove: () => {
      const key = members.take("key");
      return outcome(members, () => store.remove(key));
    },
    get: () => {
      const key = members.take("key");
      return outcome(members, () => store.get(key));
    },
    cached: () => {
      const key = members.take("key");
      return outcome(members, () => store.cached(key));
    },
    add: () => {
      const [key, by] = [members.take("key"), members.take("by")];
      return outcome(members, () => store.add(key, by));
    },
    write: () => {
      const write = writeOf(members, player);
      return outcome(members, () => store.write(write));
    },
    update: () => {
      const [key, amount] = [members.take("key"), members.take("add")];
      return outcome(members, () => store.update(key, (value) => ((value as number | null) ?? 0) + amount));
    },
    transact: () => {
      const checks = members.take("checks").map((one: object) => checkOf(new Members(members.of, one), player));
      const writes = members.take("writes").map((one: object) => {
        const part = new Members(members.of, one);
        const write = writeOf(part, player);
        part.done();
        return write;
      });
      return outcome(members, () => store.transact({ checks, writes }));
    },
    read: () => {
      const what = selector(members);
      return outcome(members, () => store.read(what));
    },
    keys: () => {
      const prefix = members.take("prefix");
      return outcome(members, () => store.keys(prefix));
    },
    usage: () => outcome(members, () => store.usage()),
    lock: () => {
      const name = members.take("lock");
      return outcome(members, async () => void locks.set(name, await store.lock(name)));
    },
    release: () => {
      const name = members.take("lock");
      return outcome(members, () => locks.get(name)!.release());
    },
    peers: () => outcome(members, () => client.peers()),
  };
  assert.ok(actions[action], `${members.of}: the action ${action} is unknown`);
  await actions[action]!();
}

async function hear(of: string, watch: Watch, expected: any): Promise<void> {
  const told = await watch.take(of);
  if (typeof expected === "string") return assert.equal(told, expected, of);
  assert.ok(typeof told === "object", `${of}: ${told}`);
  if ("refused" in told) return assert.deepEqual({ refused: told.refused.name }, expected, of);
  const members = new Members(of, expected);
  compare(members, told.state);
  assert.equal(told.state.isSnapshot, members.maybe("snapshot") ?? false, of);
  assert.equal(told.state.cause, members.maybe("cause") ?? "written", of);
  members.done();
}

for (const scenario of vectors("scenarios.json")) {
  const { name } = scenario;
  test(`scenario: ${name}`, () =>
    inDirectory(async (directory) => {
      const all = new Members(name, scenario);
      [all.take("name"), all.take("why")];
      const server = await settings(new Members(`${name}: server`, all.take("server")), directory);
      const steps: object[] = all.take("steps");
      all.done();
      await Room.with(server, async (room) => {
        const players = new Map<string, Player>();
        for (const [at, step] of steps.entries()) {
          const members = new Members(`${name}: step ${at}: ${JSON.stringify(step)}`, step);
          const peer = members.take("peer");
          const hears = members.maybe("hears");
          if (hears === undefined) await act(members, room, peer, players);
          else for (const event of members.take("events")) await hear(members.of, players.get(peer)!.watches.get(hears)!.watch, event);
          members.done();
        }
        // What was to be told has been told when an answer comes, and it was all.
        for (const { client, watches, left } of players.values()) {
          // A refusal is an answer, too.
          if (!left) await client.store.get("spotlight").catch((error) => assert.ok(error instanceof SessionStoreError));
          for (const [watch, told] of watches) assert.equal(told.watch.peek(), undefined, `${name}: ${watch} is told too much`);
        }
      });
    }));
}
