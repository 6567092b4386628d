// The hosted original's web client, unmodified, in Chromium: two pages and a peer in C in one room.
//
// SSTORE: the server program. COMPANION: tests/c/companion.c, built. CHROMIUM: the browser.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer as createProxy } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const needed = name => process.env[name] ?? assert.fail(`${name} is not set; run this by \`make test-original\``);
const SECRET = 'the secret of this test, and of nothing else';
/** For what must come, in milliseconds: nothing is measured against it. */
const PATIENCE = 60_000;

/** Waits for a line that passes, among those said and those to come. */
class Lines {
  #said = [];
  #waiting = [];
  constructor(stream) {
    createInterface({ input: stream }).on('line', line => {
      this.#said.push(line);
      this.#waiting = this.#waiting.filter(look => !look());
    });
  }
  /** The first line from the last one on that was waited for. */
  next(passes, what) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} did not come; there is ${JSON.stringify(this.#said)}`)), PATIENCE);
      const look = () => {
        const index = this.#said.findIndex(passes);
        if (index < 0) return false;
        clearTimeout(timer);
        resolve(this.#said.splice(0, index + 1).at(-1));
        return true;
      };
      if (!look()) this.#waiting.push(look);
    });
  }
}

async function end(child, signal) {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = once(child, 'exit');
    if (signal) child.kill(signal);
    await ended;
  }
  return child.exitCode;
}

/** A server of its own for a test. */
async function serve(...settings) {
  const environment = { ...process.env, ...settings.at(-1)?.environment };
  const flags = settings.filter(setting => typeof setting === 'string');
  const child = spawn(needed('SSTORE'), ['serve', '--log-level', 'debug', ...flags], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', data => (log += data));
  const url = new URL(await new Lines(child.stdout).next(() => true, 'the URL of the server'));
  return { child, url, port: url.port, log: () => log, stop: () => end(child, 'SIGTERM') };
}

/** The peer in C. */
function companion(url, room, ...token) {
  const child = spawn(needed('COMPANION'), [url, room, 'cora', ...token], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = new Lines(child.stdout);
  return {
    says: line => child.stdin.write(`${line}\n`),
    hears: line => lines.next(said => said.trimEnd() === line, line),
    leaves: async () => {
      child.stdin.end();
      assert.equal(await end(child), 0);
    },
  };
}

/** A token that the SDK can read: it takes the payload for plain base64, so neither - nor _ may be in it. */
function token(room, user, role, more = {}, secret = SECRET) {
  const part = value => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { room_id: room, user_id: user, role, exp: 4_000_000_000, pad: '', ...more };
  while (/[-_]/.test(part(claims))) claims.pad += 'x';
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** A cable that can be cut. */
async function cable(port) {
  const sockets = new Set();
  const proxy = createProxy(near => {
    const far = connect(port, '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  await new Promise(listening => proxy.listen(0, '127.0.0.1', listening));
  const own = proxy.address().port;
  const cut = () => sockets.forEach(socket => socket.destroy());
  return {
    port: own,
    cut,
    /** Nobody gets through until it is mended. */
    pull: async () => {
      const closed = new Promise(done => proxy.close(done));
      cut();
      await closed;
    },
    mend: () => new Promise(listening => proxy.listen(own, '127.0.0.1', listening)),
    close: () => {
      proxy.close();
      cut();
    },
  };
}

let browser, script;
const pages = { open: undefined, secure: undefined };
let certificate, directory;

before(async () => {
  const bundle = await build({
    entryPoints: [new URL('page.js', import.meta.url).pathname],
    bundle: true,
    write: false,
    format: 'esm',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'error',
  });
  script = bundle.outputFiles[0].text;
  browser = await chromium.launch({
    executablePath: needed('CHROMIUM'),
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
  directory = await mkdtemp(join(tmpdir(), 'sessionstore-original-'));
  certificate = { cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem') };
  const config = join(directory, 'openssl.cnf');
  // A server's certificate, not an authority's: the peer in C would refuse that.
  await writeFile(config, '[req]\ndistinguished_name=name\nx509_extensions=own\n[name]\n[own]\nsubjectAltName=DNS:localhost\n');
  execFileSync('openssl', ['req', '-x509', '-config', config, '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-keyout', certificate.key, '-out', certificate.cert], { stdio: 'ignore' });
  const answer = (request, response) => {
    const isScript = request.url === '/page.js';
    response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' });
    response.end(isScript ? script : '<!doctype html><title>A room</title><script type="module" src="/page.js"></script>');
  };
  pages.open = createServer(answer);
  pages.secure = createSecureServer({ cert: await readFile(certificate.cert), key: await readFile(certificate.key) }, answer);
  for (const server of Object.values(pages)) await new Promise(listening => server.listen(0, '127.0.0.1', listening));
});

after(async () => {
  await browser?.close();
  for (const server of Object.values(pages)) {
    server?.closeAllConnections();
    server?.close();
  }
  if (directory) await rm(directory, { recursive: true });
});

/** A page with the SDK, in a browser profile of its own. */
async function openPage(kind = 'open') {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', error => faults.push(String(error)));
  const [sent, received, sockets] = [[], [], []];
  page.on('websocket', socket => {
    sockets.push(socket.url());
    socket.on('framesent', ({ payload }) => sent.push(JSON.parse(payload)));
    socket.on('framereceived', ({ payload }) => received.push(JSON.parse(payload)));
  });
  await page.goto(`${kind === 'secure' ? 'https' : 'http'}://localhost:${pages[kind].address().port}/`);
  await page.waitForFunction(() => window.peer !== undefined, undefined, { timeout: PATIENCE });
  return {
    does: (name, ...args) => page.evaluate(([name, args]) => window.peer[name](...args), [name, args]),
    /** The same with nothing, which JSON does not have. */
    setsNothing: key => page.evaluate(key => window.peer.set(key, undefined), key),
    origin: () => page.evaluate(() => location.origin),
    until: async (name, args, expected) => {
      try {
        await page.waitForFunction(
          ([name, args, expected]) => JSON.stringify(window.peer[name](...args)) === expected,
          [name, args, JSON.stringify(expected)],
          { timeout: PATIENCE },
        );
      } catch (error) {
        throw new Error(`${name} is ${JSON.stringify(await page.evaluate(([name, args]) => window.peer[name](...args), [name, args]))}, not ${JSON.stringify(expected)}`);
      }
    },
    heard: key => page.evaluate(key => window.heard.filter(([heard]) => heard === key).map(([, value]) => value), key),
    untilError: () => page.waitForFunction(() => window.errors[0], undefined, { timeout: PATIENCE }).then(handle => handle.jsonValue()),
    /** The requests of a method that the SDK has sent, the codes it was refused with, and where it connected to. */
    sent: method => sent.filter(message => message.method === method),
    refusals: () => received.flatMap(message => message.error?.code ?? []),
    sockets,
    media: () => page.evaluate(() => window.connectionsOfMedia),
    close: async () => {
      await context.close();
      assert.deepEqual(faults, [], 'the page had no fault');
    },
  };
}

const plain = port => `http://localhost:${port}/#https://`;
const person = (name, role, metadata = '', user = `u-${name}`) => ({ name, role, metadata, user });

for (const [kind, how] of [['open', 'an open server, http and ws'], ['secure', 'tokens, one allowed origin, https and wss']]) {
  test(`two pages and a peer in C share a room: ${how}`, { timeout: 4 * PATIENCE }, async () => {
    const isSecure = kind === 'secure';
    const [ada, ben] = [await openPage(kind), await openPage(kind)];
    const server = await serve('--port', '0', '--grace', '30s',
      ...(isSecure ? ['--tls-cert', certificate.cert, '--tls-key', certificate.key, '--allow-origin', await ada.origin()] : []),
      { environment: isSecure ? { SSTORE_SECRET: SECRET } : {} });
    const [line, bensLine] = [await cable(server.port), await cable(server.port)];
    const endpoint = port => (isSecure ? `https://localhost:${port}` : plain(port));
    const room = `room ${randomUUID()}`;
    // The peer in C needs no certificate of an authority: it is told to trust this one.
    process.env.SSL_CERT_FILE = certificate.cert;
    const inC = () => companion(`${isSecure ? 'wss' : 'ws'}://localhost:${server.port}`, room, ...(isSecure ? [token(room, 'u-cora', 'guest')] : []));
    const corasUser = isSecure ? 'u-cora' : '';
    const cora = inC();
    await cora.hears('joined cora');

    assert.equal(await ada.does('join', endpoint(line.port), token(room, 'u-ada', 'host'), 'ada', '{"mood":1}'), null);
    await ada.until('isConnected', [], true);
    await cora.hears('peer joined ada {"mood":1}');
    assert.equal(await ben.does('join', endpoint(bensLine.port), token(room, 'u-ben', 'guest'), 'ben', ''), null);
    const all = [person('ada', 'host', '{"mood":1}'), person('ben', 'guest'), person('cora', 'guest', '', corasUser)];
    for (const page of [ada, ben]) await page.until('peers', [], all);

    // Each sets, each hears all, values of every kind.
    assert.equal(await ada.does('observe', ['spotlight', 'pinned']), null);
    await cora.says('set spotlight "cora"');
    await ada.until('value', ['spotlight'], 'cora');
    await ben.does('set', 'pinned', { text: 'hello', at: [1, 2.5, true, null] });
    await ada.until('value', ['pinned'], { text: 'hello', at: [1, 2.5, true, null] });
    await cora.hears('change pinned {"text":"hello","at":[1,2.5,true,null]}');
    // Who observes late knows what is set.
    assert.equal(await ben.does('observe', ['spotlight']), null);
    await ben.until('value', ['spotlight'], 'cora');
    assert.equal(await ada.does('set', 'spotlight', null), null);
    await cora.hears('change spotlight null');
    await ben.until('value', ['spotlight'], null);
    assert.equal(await ben.does('set', 'spotlight', 'ben'), null);
    await ada.until('value', ['spotlight'], 'ben');
    await ada.setsNothing('spotlight');
    await cora.hears('change spotlight null');
    await ben.until('value', ['spotlight'], null);

    // Name and metadata.
    await ben.does('changeMetadata', '{"hand":true}');
    await cora.hears('peer updated ben {"hand":true}');
    await ada.until('peers', [], [all[0], person('ben', 'guest', '{"hand":true}'), all[2]]);
    await ben.does('changeName', 'benno');
    await cora.hears('peer updated benno {"hand":true}');
    cora.says('metadata {"in":"C"}');
    const now = [all[0], person('benno', 'guest', '{"hand":true}', 'u-ben'), person('cora', 'guest', '{"in":"C"}', corasUser)];
    for (const page of [ada, ben]) await page.until('peers', [], now);

    // What is refused is told by a number that the SDK takes at once, and changes nothing.
    const refused = await ada.does('set', 'pinned', 'x'.repeat(2_000));
    assert.equal(refused.error.code, 413);
    assert.equal((await ada.does('set', 'n'.repeat(300), 1)).error.code, 400);
    assert.deepEqual(ada.refusals(), [413, 400], 'each was asked once');
    await ada.until('value', ['pinned'], { text: 'hello', at: [1, 2.5, true, null] });

    // The connection breaks; nobody is gone, and what happened meanwhile is told.
    await line.pull();
    await ada.until('state', [], 'Reconnecting');
    await cora.says('set spotlight "while ada was away"');
    await ben.until('value', ['spotlight'], 'while ada was away');
    await ben.does('changeMetadata', '{"hand":false}');
    await line.mend();
    await ada.until('state', [], 'Connected');
    await ada.until('value', ['spotlight'], 'while ada was away');
    now[1].metadata = '{"hand":false}';
    await ada.until('peers', [], now);
    await ada.does('set', 'pinned', 'back');
    await cora.hears('change pinned "back"');
    await bensLine.pull();
    await ben.until('state', [], 'Reconnecting');
    await ada.does('set', 'spotlight', 'while ben was away');
    await cora.hears('change spotlight "while ben was away"');
    await bensLine.mend();
    await ben.until('state', [], 'Connected');
    await ben.until('value', ['spotlight'], 'while ben was away');
    await ben.until('peers', [], now);
    // Not observed any more, not heard any more; what comes behind it is.
    await ada.does('unobserve', ['pinned']);
    await ben.does('set', 'pinned', 'for others');
    await ben.does('set', 'spotlight', 'last');
    await ada.until('value', ['spotlight'], 'last');
    assert.equal(await ada.does('value', 'pinned'), 'back');

    // One leaves, one closes its page, and the store goes with the last.
    assert.equal(await ada.does('leave'), null);
    await cora.hears('peer left ada {"mood":1}');
    await ben.until('peers', [], [now[1], now[2]]);
    assert.equal(await ada.media() + (await ben.media()), 0, 'nobody negotiated media');
    assert.equal(await ben.does('leave'), null);
    await cora.hears('peer left benno {"hand":false}');
    await cora.leaves();
    const again = inC();
    await again.hears('joined cora');
    again.says('set fresh 1');
    await again.hears('change fresh 1');
    await again.leaves();
    for (const socket of [...ada.sockets, ...ben.sockets]) assert.equal(new URL(socket).protocol, isSecure ? 'wss:' : 'ws:');
    for (const page of [ada, ben]) await page.close();
    for (const each of [line, bensLine]) each.close();
    assert.equal(await server.stop(), 0);
  });
}

test('a server with a secret takes its own tokens from its own pages, and says what is wrong with others', { timeout: 4 * PATIENCE }, async () => {
  const page = await openPage();
  const server = await serve('--port', '0', '--allow-origin', await page.origin(), { environment: { SSTORE_SECRET: SECRET } });
  const late = { exp: 1_000 };
  for (const bad of [token('r', 'u-eve', 'host', {}, 'another secret'), token('r', 'u-eve', 'host', late)]) {
    assert.equal((await page.does('join', plain(server.port), bad, 'eve', '')).error.code, 401);
  }
  const good = token('r', 'u-ada', 'host');
  assert.equal(await page.does('join', plain(server.port), good, 'ada', ''), null);
  await page.until('peers', [], [person('ada', 'host')]);
  assert.equal(await page.does('leave'), null);

  // A page from elsewhere is refused at once, rather than left to wait.
  const other = await serve('--port', '0', '--allow-origin', 'https://example.org', { environment: { SSTORE_SECRET: SECRET } });
  assert.equal((await page.does('join', plain(other.port), good, 'ada', '')).error.code, 403);
  for (const each of [server, other]) {
    assert.equal(await each.stop(), 0);
    assert.ok(!each.log().includes(good) && !each.log().includes(good.split('.')[2]), 'no token is in the log');
  }
  await page.close();
});

test('who was away for longer than the grace period is told that its session is over', { timeout: 4 * PATIENCE }, async () => {
  const server = await serve('--port', '0', '--grace', '0s');
  const line = await cable(server.port);
  const page = await openPage();
  const cora = companion(`ws://localhost:${server.port}`, 'r');
  await cora.hears('joined cora');
  assert.equal(await page.does('join', plain(line.port), token('r', 'u-ada', 'host'), 'ada', ''), null);
  await cora.hears('peer joined ada');
  line.cut();
  await cora.hears('peer left ada');
  assert.equal((await page.untilError()).code, 410);
  await page.until('isConnected', [], false);
  await cora.leaves();
  await page.close();
  line.close();
  assert.equal(await server.stop(), 0);
});

/** A proxy that speaks TLS and has the server under a path, as in front of many: `/init` goes through, `/store/…` without `/store`. */
async function proxy(port) {
  const sockets = new Set();
  const forward = ({ method, url, headers }) => request({ host: '127.0.0.1', port: port(), method, path: url.replace(/^\/store/, ''), headers });
  const server = createSecureServer({ cert: await readFile(certificate.cert), key: await readFile(certificate.key) }, (asked, answer) => {
    const far = forward(asked);
    far.on('response', said => said.pipe(answer.writeHead(said.statusCode, said.headers)));
    far.on('error', () => answer.destroy());
    asked.pipe(far);
  });
  server.on('upgrade', (asked, near) => {
    sockets.add(near.on('error', () => {}));
    const far = forward(asked);
    far.on('upgrade', (said, behind, head) => {
      const lines = said.rawHeaders.flatMap((name, at) => (at % 2 ? [] : `${name}: ${said.rawHeaders[at + 1]}\r\n`));
      near.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`);
      near.write(head);
      near.pipe(behind).pipe(near);
      behind.on('error', () => near.destroy()).on('close', () => near.destroy());
      near.on('close', () => behind.destroy());
    });
    far.on('error', () => near.destroy());
    far.end();
  });
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  return {
    url: `https://localhost:${server.address().port}`,
    cut: () => sockets.forEach(socket => socket.destroy()),
    close: () => {
      server.close();
      server.closeAllConnections();
      sockets.forEach(socket => socket.destroy());
    },
  };
}

test('behind a proxy that speaks TLS the page is told the public URL, and comes back by it', { timeout: 4 * PATIENCE }, async () => {
  const page = await openPage('secure');
  let port;
  const front = await proxy(() => port);
  const server = await serve('--port', '0', '--public-url', `${front.url}/store/`, '--allow-origin', await page.origin(),
    { environment: { SSTORE_SECRET: SECRET } });
  port = server.port;
  const cora = companion(`ws://localhost:${port}`, 'r', token('r', 'u-cora', 'guest'));
  await cora.hears('joined cora');
  assert.equal(await page.does('join', front.url, token('r', 'u-ada', 'host'), 'ada', ''), null);
  await cora.hears('peer joined ada');
  await page.does('observe', ['spotlight']);
  front.cut();
  await page.until('state', [], 'Reconnecting');
  await cora.says('set spotlight "cora"');
  await page.until('state', [], 'Connected');
  await page.until('value', ['spotlight'], 'cora');
  await page.does('set', 'spotlight', null);
  await cora.hears('change spotlight null');
  const place = `${front.url.replace('https', 'wss')}/store/ws`;
  assert.ok(page.sockets.length >= 2 && page.sockets.every(socket => socket.startsWith(`${place}?`)), String(page.sockets.length));
  assert.equal(await page.does('leave'), null);
  await cora.hears('peer left ada');
  await cora.leaves();
  await page.close();
  front.close();
  assert.equal(await server.stop(), 0);
});

test('what may pass the SDK tries again: too many requests, a room that is full', { timeout: 4 * PATIENCE }, async () => {
  const server = await serve('--port', '0', '--max-requests-per-second', '3', '--max-request-burst', '10', '--max-peers', '2');
  const page = await openPage();
  const cora = companion(`ws://localhost:${server.port}`, 'r');
  await cora.hears('joined cora');
  assert.equal(await page.does('join', plain(server.port), token('r', 'u-ada', 'host'), 'ada', ''), null);
  const keys = Array.from({ length: 14 }, (_, at) => `k${at}`);
  // Too fast at first; then each is set after all, and once.
  assert.deepEqual(await Promise.all(keys.map(key => page.does('set', key, key))), keys.map(() => null));
  assert.ok(page.refusals().includes(429), String(page.refusals()));
  assert.ok(page.sent('set-metadata').length > keys.length);

  const other = await openPage();
  assert.equal((await other.does('join', plain(server.port), token('r', 'u-ben', 'guest'), 'ben', '')).error.code, 503);
  assert.deepEqual([other.sent('join').length, other.refusals()], [2, [503, 503]]);
  await cora.leaves();
  for (const each of [page, other]) await each.close();
  assert.equal(await server.stop(), 0);
});

test('a server with its data is stopped and started again, and the page goes on', { timeout: 4 * PATIENCE }, async () => {
  const data = join(directory, 'data');
  let server = await serve('--port', '0', '--data-dir', data);
  const { port } = server;
  const page = await openPage();
  const cora = companion(`ws://localhost:${port}`, 'r');
  await cora.hears('joined cora');
  assert.equal(await page.does('join', plain(port), token('r', 'u-ada', 'host'), 'ada', '{"mood":1}'), null);
  await page.does('observe', ['spotlight']);
  await page.does('set', 'spotlight', 'before');
  assert.equal(await server.stop(), 0);
  await page.until('state', [], 'Reconnecting');
  server = await serve('--port', port, '--data-dir', data);
  await page.until('state', [], 'Connected');
  await cora.says('set spotlight "after"');
  await page.until('value', ['spotlight'], 'after');
  await page.until('peers', [], [person('ada', 'host', '{"mood":1}'), person('cora', 'guest', '', '')]);
  assert.equal(await page.does('leave'), null);
  await cora.hears('peer left ada {"mood":1}');
  await cora.leaves();
  await page.close();
  assert.equal(await server.stop(), 0);
});
