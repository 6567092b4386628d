import { type ErrorName, fault } from "./errors.js";

/**
 * JSON as it is written, for values whose very text matters: `1.0` instead of `1`, or one that was made elsewhere.
 *
 * ```ts
 * await store.set("price", new JsonText("1.0"));
 * ```
 */
export class JsonText {
  /** The text. */
  declare readonly text: string;

  /** @throws `INVALID_JSON` for what is none. */
  constructor(text: string) {
    try {
      JSON.parse(text);
    } catch {
      throw fault("INVALID_JSON", "this is no JSON; strings need quotes");
    }
    this.text = text;
  }
}

/** The tokens of a text that is JSON: what separates them need not be looked at. */
const tokens = /[\s,:]*("[^"\\]*(?:\\.[^"\\]*)*"|[[\]{}]|[^\s[\]{},:"]+)/y;

/**
 * Reads JSON whose integers keep every digit: those that a number cannot hold exactly become a `bigint`. Nothing of it can
 * be changed: who is given a value cannot change it for others.
 *
 * @param isMessage members named `data` become functions that give their text: they are values of the store, which are
 *   kept as they were written. The names of members are read like_this and given likeThis, but not of those that hold
 *   members themselves: they may be ids of peers
 * @throws SyntaxError
 */
export function parse(text: string, isMessage?: boolean): any {
  // Whether it is JSON, the language itself knows.
  JSON.parse(text);
  tokens.lastIndex = 0;
  const next = (): string => tokens.exec(text)![1]!;
  const list = <T>(end: string, item: (first: string) => T): T[] => {
    const items: T[] = [];
    for (let found; (found = next()) !== end; ) items.push(item(found));
    return items;
  };
  const value = (found: string): unknown => {
    if (found === "[") return Object.freeze(list("]", value));
    if (found !== "{") return /^-?\d{16,}$/.test(found) && !Number.isSafeInteger(+found) ? BigInt(found) : JSON.parse(found);
    const member = (quoted: string): [string, unknown] => {
      const name: string = JSON.parse(quoted);
      const start = tokens.lastIndex;
      const read = value(next());
      if (!isMessage) return [name, read];
      const written = text.slice(start, tokens.lastIndex).replace(/^[\s:]+/, "");
      return [typeof read === "object" ? name : name.replace(/_./g, ([, letter]) => letter!.toUpperCase()), name === "data" ? () => written : read];
    };
    // Own members whatever their names: `__proto__` is one like any other.
    return Object.freeze(Object.fromEntries(list("}", member)));
  };
  return value(next());
}

/** So many random digits that nobody guesses them. */
export const random = () => [...crypto.getRandomValues(new Uint8Array(32))].map((byte) => (byte & 15).toString(16)).join("");

/** Stands for a text in JSON until the rest is written. */
const mark = random();

/**
 * Writes a value as JSON, as `JSON.stringify` does, but with a `bigint` as an integer, and without turning a number that
 * is none into `null`.
 *
 * @throws {@link SessionStoreError} `INVALID_JSON` for what is no JSON: undefined, a function, a cycle, and `NaN` or
 *   `Infinity` anywhere. Members that are undefined or functions are left out, and a Map is `{}`, as `JSON.stringify` does it
 */
export function stringify(value: unknown): string;
/** @internal */
export function stringify(value: unknown, error: ErrorName): string;
export function stringify(value: unknown, error: ErrorName = "INVALID_JSON"): string {
  const texts: unknown[] = [];
  const marked = (_: string, part: any) => {
    if (typeof part === "number" && !Number.isFinite(part)) throw part;
    return part instanceof JsonText || typeof part === "bigint" ? mark + (texts.push((part as any).text ?? part) - 1) : part;
  };
  try {
    return JSON.stringify(value, marked).replace(RegExp(`"${mark}(\\d+)"`, "g"), (_, at) => texts[at] as string);
  } catch {
    throw fault(error, "NaN, Infinity, undefined are no JSON; null removes a key");
  }
}
