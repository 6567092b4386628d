// @ts-check
// What differs between two values, path by path.
import { same } from "./json.js";

/** @typedef {import("./json.js").Json} Json */
/** `undefined` stands for what is not there.
 * @typedef {{ path: string, before: Json | undefined, after: Json | undefined }} Difference */

/** More lines than this nobody reads. */
export const MAX_DIFFERENCES = 12;

/** @param {string} path @param {string} name */
const member = (path, name) => (/^[A-Za-z_$][\w$-]*$/.test(name) ? (path ? `${path}.${name}` : name) : `${path}[${JSON.stringify(name)}]`);

/**
 * The differences of two values; those beyond `MAX_DIFFERENCES` are only counted.
 * @param {Json | undefined} before
 * @param {Json | undefined} after
 * @returns {{ lines: Difference[], more: number }}
 */
export function diff(before, after) {
  /** @type {Difference[]} */
  const lines = [];
  let more = 0;
  /** @param {string} path @param {Json | undefined} a @param {Json | undefined} b */
  const put = (path, a, b) => {
    if (lines.length < MAX_DIFFERENCES) lines.push({ path, before: a, after: b });
    else more++;
  };
  /** @param {string} path @param {Json | undefined} a @param {Json | undefined} b */
  const walk = (path, a, b) => {
    if (same(a, b)) return;
    if (a instanceof Map && b instanceof Map) {
      for (const [name, item] of a) walk(member(path, name), item, b.get(name));
      for (const [name, item] of b) if (!a.has(name)) put(member(path, name), undefined, item);
    } else if (Array.isArray(a) && Array.isArray(b)) {
      // What both begin and end with is the same; what is between was changed, or came, or went.
      let head = 0;
      while (head < a.length && head < b.length && same(a[head], b[head])) head++;
      let tail = 0;
      while (tail < a.length - head && tail < b.length - head && same(a[a.length - 1 - tail], b[b.length - 1 - tail])) tail++;
      const [were, are] = [a.length - tail, b.length - tail];
      for (let i = head; i < Math.max(were, are); i++) {
        if (i < were && i < are) walk(`${path}[${i}]`, a[i], b[i]);
        else put(`${path}[${i}]`, i < were ? a[i] : undefined, i < are ? b[i] : undefined);
      }
    } else put(path, a, b);
  };
  walk("", before, after);
  return { lines, more };
}

/**
 * Where two texts differ: what they begin with, what each has in the middle, what they end with. Nothing is cut within a
 * character of two halves.
 * @param {string} a
 * @param {string} b
 * @returns {[string, string, string, string]}
 */
export function middle(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  if (head && /[\ud800-\udbff]/.test(a.charAt(head - 1))) head--;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  if (tail && /[\udc00-\udfff]/.test(a.charAt(a.length - tail))) tail--;
  return [a.slice(0, head), a.slice(head, a.length - tail), b.slice(head, b.length - tail), a.slice(a.length - tail)];
}
