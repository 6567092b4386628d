// @ts-check
// JSON that comes out as it went in, and text that cannot pretend to be something else.

/**
 * A piece of JSON that is kept as it is written, because JavaScript would change it: numbers that a double does not hold
 * or writes differently, objects that have a name twice, what is nested too deep.
 */
export class Raw {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
  }
}

/** @typedef {null | boolean | number | string | Raw | Json[] | JsonMap} Json */
/** Objects are maps, so that their members keep their order, and no name has a meaning (`__proto__`).
 * @typedef {Map<string, any>} JsonMap */

/** Deeper than this a value is shown as one line of text; no app nests so deep, and recursion must end. */
const MAX_DEPTH = 100;

/**
 * Reads JSON.
 * @param {string} text
 * @returns {Json}
 * @throws {SyntaxError} with the place at which it is none
 */
export function parse(text) {
  let at = 0;
  const fail = () => {
    throw new SyntaxError(at < text.length ? `This is not JSON at character ${at + 1}.` : "This JSON is not complete.");
  };
  const space = () => {
    while (at < text.length && " \t\n\r".includes(text.charAt(at))) at++;
  };
  /** @returns {string} */
  const string = () => {
    const from = at++;
    for (; at < text.length && text[at] !== '"'; at++) if (text[at] === "\\") at++;
    if (at++ >= text.length) fail();
    try {
      return JSON.parse(text.slice(from, at));
    } catch {
      at = from;
      return fail();
    }
  };
  /** Passes over an array or object without looking into it. */
  const skip = () => {
    const from = at;
    let open = 0;
    do {
      const c = text[at];
      if (c === undefined) fail();
      if (c === '"') string();
      else {
        open += c === "[" || c === "{" ? 1 : c === "]" || c === "}" ? -1 : 0;
        at++;
      }
    } while (open > 0);
    return new Raw(text.slice(from, at));
  };
  const word = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.+-])/y;
  /** @param {number} depth @returns {Json} */
  const value = (depth) => {
    space();
    const from = at;
    const c = text[at];
    if (c === '"') return string();
    if (c === "[" || c === "{") {
      if (depth > MAX_DEPTH) return skip();
      const close = c === "[" ? "]" : "}";
      /** @type {Json[]} */
      const list = [];
      /** @type {JsonMap} */
      const map = new Map();
      let twice = false;
      at++;
      space();
      if (text[at] !== close) {
        for (;;) {
          space();
          if (c === "[") list.push(value(depth + 1));
          else {
            if (text[at] !== '"') fail();
            const name = string();
            space();
            if (text[at++] !== ":") (at--, fail());
            twice ||= map.has(name);
            map.set(name, value(depth + 1));
          }
          space();
          if (text[at] !== ",") break;
          at++;
        }
        if (text[at] !== close) fail();
      }
      at++;
      return c === "[" ? list : twice ? new Raw(text.slice(from, at)) : map;
    }
    word.lastIndex = at;
    const token = word.exec(text)?.[0];
    if (!token) return fail();
    at += token.length;
    if (token === "true" || token === "false") return token === "true";
    if (token === "null") return null;
    return String(Number(token)) === token ? Number(token) : new Raw(token);
  };
  const result = value(0);
  space();
  if (at < text.length) fail();
  return result;
}

/**
 * Writes JSON; compact without an indent.
 * @param {Json} value
 * @param {string} [indent]
 * @param {string} [before] what lines begin with
 * @returns {string}
 */
export function stringify(value, indent = "", before = "") {
  if (value instanceof Raw) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const within = before + indent;
  const colon = indent ? ": " : ":";
  const items = Array.isArray(value)
    ? value.map((item) => stringify(item, indent, within))
    : [...value].map(([name, item]) => JSON.stringify(name) + colon + stringify(item, indent, within));
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!items.length) return `${open}${close}`;
  return indent ? `${open}\n${within}${items.join(`,\n${within}`)}\n${before}${close}` : `${open}${items.join(",")}${close}`;
}

/** Whether two values mean the same. @param {Json | undefined} a @param {Json | undefined} b @returns {boolean} */
export function same(a, b) {
  if (a === b) return true;
  if (a instanceof Raw || b instanceof Raw) return a instanceof Raw && b instanceof Raw && a.text === b.text;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => same(item, b[i]));
  if (a instanceof Map && b instanceof Map) return a.size === b.size && [...a].every(([name, item]) => b.has(name) && same(item, b.get(name)));
  return false;
}

/** The name of a value's type. @param {Json} value */
export function type(value) {
  if (value === null) return "null";
  if (value instanceof Raw) return /^[[{]/.test(value.text) ? "object" : "number";
  return Array.isArray(value) ? "array" : typeof value;
}

// Control characters, half pairs, and what turns the direction of writing or is not seen at all: with those a name could
// look like another. (What joins emoji, and the letters of many languages, stays.)
const DECEPTIVE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * A text as it can be shown: what cannot be seen in it is written as in JSON.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(DECEPTIVE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** How many bytes a text has on the wire. @param {string} text */
export function bytes(text) {
  return new TextEncoder().encode(text).length;
}
