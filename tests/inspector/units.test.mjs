// The parts of the page that need no page.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_DIFFERENCES, diff, middle } from "../../src/inspector/diff.js";
import { Raw, parse, same, stringify, visible } from "../../src/inspector/json.js";
import { KEPT, RoomModel } from "../../src/inspector/model.js";

test("JSON comes out as it went in, each digit and each member of it", () => {
  for (const text of [
    "null", "true", "0", "-1.5", "1.0", "1e400", "-0", "123456789012345678901234567890", '"a\\"\\\\b\\u0041"', "[]", "{}",
    '{"2":1,"1":2,"__proto__":{"constructor":3}}', '{"a":1,"a":2}', "[[[1.10]]]", `${"[".repeat(5000)}1${"]".repeat(5000)}`,
  ]) {
    const written = stringify(parse(text));
    assert.equal(written, text === '"a\\"\\\\b\\u0041"' ? '"a\\"\\\\bA"' : text);
    assert.ok(same(parse(text), parse(text)), text.slice(0, 50));
  }
  assert.equal(stringify(parse(' { "a" : [ 1 , {} ] } '), "  "), '{\n  "a": [\n    1,\n    {}\n  ]\n}');
});

test("what is no JSON is refused with its place", () => {
  for (const text of ["", "nul", "01", "1.", "+1", "'a'", '"a', "[1,]", "[1", "{a:1}", '{"a"}', '{"a":1,}', "1 2", '"\u0001"', "tru e", "NaN", "[".repeat(5000)])
    assert.throws(() => parse(text), /not JSON at character|not complete/, text.slice(0, 20));
});

test("signs that deceive the eye are shown as what they are", () => {
  assert.equal(visible("a\u202eb\u200bc\u0000d"), "a\\u202eb\\u200bc\\u0000d");
  assert.equal(visible("\ud800x"), "\\ud800x");
  assert.equal(visible("Zoë 👩‍🏫 ناصر\n"), "Zoë 👩‍🏫 ناصر\n");
});

test("differences are named by their paths", () => {
  const found = (a, b) => diff(parse(a), parse(b)).lines.map(({ path, before, after }) => [path, ...[before, after].map((value) => (value === undefined ? undefined : stringify(value)))]);
  assert.deepEqual(found("1", "1"), []);
  assert.deepEqual(found("1", "1.0"), [["", "1", "1.0"]]);
  assert.deepEqual(found('{"a":1,"b":{"c":[1,2]}}', '{"b":{"c":[1,3]},"d e":null}'), [["a", "1", undefined], ["b.c[1]", "2", "3"], ['["d e"]', undefined, "null"]]);
  assert.deepEqual(found("[1,2,3]", "[1,9,2,3]"), [["[1]", undefined, "9"]]);
  assert.deepEqual(found("[1,2,3]", "[3]"), [["[0]", "1", undefined], ["[1]", "2", undefined]]);
  assert.deepEqual(found('{"a":1}', "[1]"), [["", '{"a":1}', "[1]"]]);
  const { lines, more } = diff(new Map(), new Map(Array.from({ length: 40 }, (_, i) => [`k${i}`, i])));
  assert.deepEqual([lines.length, more], [MAX_DIFFERENCES, 40 - MAX_DIFFERENCES]);
});

test("texts differ in their middle, and never within a character", () => {
  assert.deepEqual(middle("one two three", "one 2 three"), ["one ", "two", "2", " three"]);
  assert.deepEqual(middle("aa", "aaa"), ["aa", "", "a", ""]);
  const [head, was, is, tail] = middle("x👍y", "x👎y");
  assert.deepEqual([head, was, is, tail], ["x", "👍", "👎", "y"]);
});

const state = (key, data, version, more = {}) => ({ key, data, change_version: version, updated_by: "p", author: { user_id: "u", name: "P" }, updated_at: 1, ...more });
const event = (model, name, data, now = 1) => model.apply(name, parse(JSON.stringify(data)), now);
const begin = (model, values, session = "s") => event(model, "snapshot", { session_id: session, revision: 1, peers: [], values });

test("a snapshot after a gap is told as what differs", () => {
  const model = new RoomModel();
  begin(model, [state("a", 1, 1), state("b", 2, 2), state("c", 3, 3)]);
  assert.equal(model.news.length, 0);
  begin(model, [state("a", 1, 1), state("b", 5, 7)]);
  assert.deepEqual(model.news.map((news) => [news.state.key, news.state.data, news.missed]), [["c", null, true], ["b", 5, true]]);
  assert.deepEqual([...model.values.keys()], ["a", "b"]);
});

test("another session has no history of the one before", () => {
  const model = new RoomModel();
  begin(model, [state("a", 1, 1)]);
  event(model, "changes", { revision: 2, values: [state("a", 2, 2)] });
  assert.equal(model.history.get("a").length, 1);
  event(model, "closed", {});
  assert.deepEqual([model.open, model.values.size], [false, 0]);
  begin(model, [], "t");
  assert.deepEqual([model.open, model.history.size], [true, 0]);
});

test("what is kept is bounded, of each key and of all", () => {
  const model = new RoomModel();
  begin(model, []);
  let version = 1;
  for (let i = 0; i < 3 * KEPT.perKey; i++) event(model, "changes", { revision: ++version, values: [state("busy", i, version)] });
  assert.equal(model.history.get("busy").length, KEPT.perKey);
  for (let i = 0; i < 2 * KEPT.inAll; i++) event(model, "changes", { revision: ++version, values: [state(`k${i}`, i, version)] });
  const kept = [...model.history.values()].reduce((sum, list) => sum + list.length, 0);
  assert.ok(kept <= KEPT.inAll && kept === model.kept, String(kept));
  assert.ok(!model.history.has("busy") && model.history.has(`k${2 * KEPT.inAll - 1}`));
  assert.equal(model.news.length, KEPT.news);
});

test("locks are not among the keys", () => {
  const model = new RoomModel();
  begin(model, [state("$lock/x", { holder: "p", token: 4 }, 4), state("a", 1, 1)]);
  assert.deepEqual([[...model.values.keys()], [...model.locks.keys()]], [["a"], ["x"]]);
  event(model, "changes", { revision: 5, values: [state("$lock/x", null, 5)] });
  assert.equal(model.locks.size, 0);
});

test("raw JSON is the same only if it is written alike", () => {
  assert.ok(same(new Raw("1.0"), new Raw("1.0")) && !same(new Raw("1.0"), 1) && !same(parse('{"a":1}'), parse('{"b":1}')));
});
