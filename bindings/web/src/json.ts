import { fault } from "./errors.js";

/**
 * JSON as it is written, for values whose very text matters: `1.0` instead of `1`, or one that was made elsewhere.
 *
 * ```ts
 * await store.set("price", new JsonText("1.0"));
 * ```
 */
export class JsonText {
  /** The text. */
  readonly text: string;

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

const tokens = /\s*("[^"\\]*(?:\\.[^"\\]*)*"|[[\]{},:]|[^\s[\]{},:"]+)\s*/y;

const fail = (): never => {
  throw new SyntaxError();
};

/**
 * Reads JSON whose integers keep every digit: those that a number cannot hold exactly become a `bigint`.
 *
 * @param data of a message: what becomes of the members named `data`, given as text; they are values of the store, which
 *   are kept as they were written. The names of its members are read like_this and given likeThis
 * @throws SyntaxError
 */
export function parse(text: string, data?: (json: string) => unknown): any {
  let at = 0;
  const next = (): string => {
    tokens.lastIndex = at;
    const found = tokens.exec(text)?.[1] ?? fail();
    at = tokens.lastIndex;
    return found;
  };
  const asText = (): string => {
    const start = at;
    let depth = 0;
    do {
      const found = next();
      depth += /^[[{]/.test(found) ? 1 : /^[\]}]/.test(found) ? -1 : 0;
    } while (depth > 0);
    return text.slice(start, at).trim();
  };
  const list = <T>(end: string, item: (first: string) => T): T[] => {
    const items: T[] = [];
    let found = next();
    if (found === end) return items;
    for (;;) {
      items.push(item(found));
      found = next();
      if (found === end) return items;
      if (found !== ",") fail();
      found = next();
    }
  };
  const value = (found: string): unknown => {
    if (found === "[") return list("]", value);
    if (found !== "{") return /^-?\d{16,}$/.test(found) && !Number.isSafeInteger(+found) ? BigInt(found) : JSON.parse(found);
    const member = (quoted: string): [string, unknown] => {
      const name: string = JSON.parse(quoted);
      if (next() !== ":") fail();
      if (!data) return [name, value(next())];
      return [name.replace(/_./g, ([, letter]) => letter!.toUpperCase()), name === "data" ? data(asText()) : value(next())];
    };
    // Own members whatever their names: `__proto__` is one like any other.
    return Object.fromEntries(list("}", member));
  };
  const result = value(next());
  return at < text.length ? fail() : result;
}

/** Nobody who is given a value can change it for those who are given it too. */
function frozen<T>(value: T): T {
  if (typeof value === "object" && value) Object.values(Object.freeze(value)).forEach(frozen);
  return value;
}

/** Reads a value of the store. */
export const parseValue = (json: string): any => frozen(/\d{16}/.test(json) ? parse(json) : JSON.parse(json));

/** Undefined for what JSON leaves out. */
function write(value: any): string | undefined {
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" && !Number.isFinite(value)) return fail();
  if (typeof value !== "object" || !value) return JSON.stringify(value);
  if (value instanceof JsonText) return value.text;
  if (typeof value.toJSON === "function") return write(value.toJSON());
  if (Array.isArray(value)) return `[${Array.from(value, (item) => write(item) ?? "null")}]`;
  const members = Object.entries(value).map(([name, member]) => [JSON.stringify(name), write(member)]);
  return `{${members.filter(([, text]) => text !== undefined).map((member) => member.join(":"))}}`;
}

/**
 * Writes a value as JSON, as `JSON.stringify` does, but with a `bigint` as an integer, and without turning a number that
 * is none into `null`.
 *
 * @throws {@link SessionStoreError} `INVALID_JSON` for what is no JSON: undefined, a function, `NaN`, a cycle.
 */
export function stringify(value: unknown): string {
  let text: string | undefined;
  try {
    text = write(value);
  } catch {}
  if (text === undefined) throw fault("INVALID_JSON", "the value cannot be written as JSON; null removes a key");
  return text;
}
