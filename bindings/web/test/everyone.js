// A peer of this language in a room with peers of the others: says that it is here, waits until it has heard everybody,
// says so, and waits until everybody has said so. node test/everyone.js URL ROOM NAME COUNT; `make web-everyone` builds
// what it needs.
import assert from "node:assert/strict";
import { Client } from "sessionstore";
import WebSocket from "ws";

const [url, room, name, argument] = process.argv.slice(2);
const count = Number(argument);

async function everyone(signal) {
  const client = new Client({ url, room, name, peerId: name, failFast: true, WebSocket });
  const store = await client.join({ signal });
  await store.set(`here/${name}`, { from: name, n: 9007199254740993n, on: true });
  const heard = new Set();
  for await (const { key, value, author } of store.states({ prefixes: ["here/"] }, { signal })) {
    if (value === null) continue;
    const from = key.slice("here/".length);
    assert.deepEqual({ ...value }, { from, n: 9007199254740993n, on: true });
    assert.equal(author?.name, from, key);
    heard.add(key);
    if (heard.size === count) break;
  }
  await store.set(`heard/${name}`, count);
  const done = new Set();
  for await (const { key, value } of store.states({ prefixes: ["heard/"] }, { signal })) {
    if (value === null) continue;
    assert.equal(value, count, key);
    done.add(key);
    if (done.size === count) break;
  }
  await client.leave();
}

try {
  await everyone(AbortSignal.timeout(60_000));
  console.log(`${name} heard ${count}`);
  process.exit(0);
} catch (error) {
  console.error(`everyone: ${error.message}`);
  process.exit(1);
}
