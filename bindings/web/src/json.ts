import { SessionStoreError } from "./errors.js";

/** A value in JSON. Integers that a `number` does not hold exactly are read as `bigint`, and may be written as such. */
export type Json = null | boolean | number | bigint | string | readonly Json[] | { readonly [member: string]: Json };

/** JSON text that stands as it is. @internal */
export class Raw {
    constructor(readonly _json: string) {}
}

/**
 * Reads JSON, integers exactly. With `keepData`, what is called `data` stays text: values are passed on as they were
 * written, byte for byte. Throws for what is no JSON. @internal
 */
export function parseJson(text: string, keepData = false): unknown {
    // The engine's own parser, which is faster, would round such integers.
    if (!keepData && !/\d{16}/.test(text)) return JSON.parse(text) as unknown;
    const tokens = /\s*([[\]{}:,]|"[^"\\]*(?:\\.[^"\\]*)*"|[-+.\w]+)/y;
    let token = "";
    const next = () => (token = tokens.exec(text)?.[1] ?? fail());
    // Reads the value that begins with the current token.
    const read = (): unknown => {
        if (token === "[" || token === "{") {
            const isArray = token === "[";
            const end = isArray ? "]" : "}";
            const members: [string, unknown][] = [];
            if (next() !== end) {
                for (;;) {
                    let name = "";
                    if (!isArray) {
                        name = JSON.parse(token[0] === '"' ? token : "") as string;
                        if (next() !== ":") fail();
                        next();
                    }
                    const from = tokens.lastIndex - token.length;
                    const value = read();
                    members.push([name, keepData && name === "data" ? text.slice(from, tokens.lastIndex) : value]);
                    if (next() === end) break;
                    if (token !== ",") fail();
                    next();
                }
            }
            // Also a member called __proto__ is one like others.
            return isArray ? members.map((member) => member[1]) : Object.fromEntries(members);
        }
        const plain = JSON.parse(token) as unknown;
        return typeof plain === "number" && !Number.isSafeInteger(plain) && /^-?\d+$/.test(token) ? BigInt(token) : plain;
    };
    next();
    const value = read();
    if (text.slice(tokens.lastIndex).trim()) fail();
    return value;
}

function fail(): never {
    throw new SyntaxError();
}

/** So many random bytes as hexadecimal digits. @internal */
export function randomHex(bytes: number): string {
    return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Marks integers on their way through the engine's writer, which refuses bigints. Random, so that no text of an app's
// looks like one.
const MARK = randomHex(16);

/** Writes JSON, integers exactly. `INVALID_JSON` for what JSON does not have. @internal */
export function writeJson(value: unknown): string {
    let hasMarks = false;
    const replace = (_: string, part: unknown) => {
        if (typeof part === "bigint") {
            hasMarks = true;
            return MARK + part;
        }
        // The engine would write null, which removes the key.
        return typeof part === "number" && !Number.isFinite(part) ? fail() : part;
    };
    let text: string | undefined;
    try {
        text = JSON.stringify(value, replace) as string | undefined;
    } catch {
        // Told below.
    }
    if (text === undefined) throw new SessionStoreError("INVALID_JSON", "the value is nothing that JSON has");
    return hasMarks ? text.replace(RegExp(`"${MARK}(-?\\d+)"`, "g"), "$1") : text;
}

/** Text of an app's that is to be JSON, checked. @internal */
export function rawJson(text: string): Raw {
    try {
        JSON.parse(text);
    } catch {
        throw new SessionStoreError("INVALID_JSON", "the text is no JSON; strings need quotes");
    }
    return new Raw(text);
}

/** Members of an object on the wire; those that are undefined are left out. @internal */
export type Members = { readonly [name: string]: unknown };

/** Writes an object whose members may be raw. @internal */
export function writeObject(members: Members): string {
    const written = Object.entries(members).filter(([, value]) => value !== undefined);
    return `{${written.map(([name, value]) => `"${name}":${value instanceof Raw ? value._json : writeJson(value)}`).join()}}`;
}
