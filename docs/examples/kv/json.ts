// Proto3 JSON by the schemas of messages.ts, as grpc-gateway reads and writes it for etcd: 64-bit numbers are decimal strings
// in answers and either in requests, bytes are base64, fields with their default are left out of answers, both names of a
// field are read, unknown fields are passed over, null is the default. The texts of errors are ours, their code is etcd's.

import { Code, StatusError } from "./errors.js";
import type { Field, Schema } from "./messages.js";

/** Requests within requests within requests; protobuf has such a bound too. */
const MAX_DEPTH = 100;
const MIN_INT64 = -(2n ** 63n);
const MAX_INT64 = 2n ** 63n - 1n;
const MAX_UINT64 = 2n ** 64n - 1n;

type Values = Record<string, unknown>;

function malformed(message: string): StatusError {
  return new StatusError(Code.InvalidArgument, message);
}

/**
 * Reads the body of a request; an empty one is a message without fields.
 * @throws StatusError of code 3 when it is no JSON, or not of this shape.
 */
export function readJson<T>(schema: Schema<T>, body: string): T {
  if (/^[ \t\r\n]*$/.test(body)) return messageOf(schema, {}, 0) as T;
  let value: unknown;
  try {
    value = JSON.parse(body);
    // Numbers that a double does not hold are read once more, as the strings that proto3 JSON would have for them.
    const exact = body.replace(/"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g, (token) =>
      token.startsWith('"') ? token : `"${token}"`,
    );
    if (exact !== body) value = JSON.parse(exact);
  } catch (error) {
    throw malformed(error instanceof Error ? error.message : "invalid JSON");
  }
  return messageOf(schema, value, 0) as T;
}

/** What JSON.stringify() turns into the answer. */
export function writeJson<T>(schema: Schema<T>, message: T): Values {
  const out: Values = {};
  for (const [key, field] of Object.entries(schema.fields)) {
    const value = (message as Values)[key];
    if (value === undefined) continue;
    if (field.repeated === true) {
      const items = value as unknown[];
      if (items.length > 0) out[field.name] = items.map((item) => written(field, item));
    } else if (field.kind === "message" || field.oneof !== undefined || !isDefault(value)) {
      out[field.name] = written(field, value);
    }
  }
  return out;
}

export function isDefault(value: unknown): boolean {
  return value instanceof Uint8Array ? value.length === 0 : !value;
}

/** What a field holds that was not given. */
export function defaultOf({ kind, repeated, oneof }: Field): unknown {
  if (repeated === true) return [];
  if (oneof !== undefined || kind === "message") return undefined;
  switch (kind) {
    case "bytes":
      return new Uint8Array(0);
    case "string":
      return "";
    case "bool":
      return false;
    case "uint64":
      return 0n;
    default:
      return 0;
  }
}

function written(field: Field, value: unknown): unknown {
  switch (field.kind) {
    case "bytes": {
      const { buffer, byteOffset, byteLength } = value as Uint8Array;
      return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
    }
    case "int64":
    case "uint64":
      return String(value);
    case "enum":
      return field.values?.[value as number] ?? value;
    case "message":
      return writeJson(field.message?.() as Schema, value);
    default:
      return value;
  }
}

function messageOf(schema: Schema, value: unknown, depth: number): Values {
  if (depth > MAX_DEPTH) throw malformed("exceeded maximum recursion depth");
  // The gateway takes a bare null for a message without fields.
  const given = value === null && depth === 0 ? {} : value;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw malformed(`unexpected ${Array.isArray(given) ? "array" : typeof given}, want a ${schema.name}`);
  }
  const out: Values = {};
  const taken = new Set<string>();
  for (const [key, field] of Object.entries(schema.fields)) {
    const names = field.name === key ? [key] : [field.name, key];
    const present = names.filter((name) => Object.hasOwn(given, name) && (given as Values)[name] !== null);
    if (present.length > 1) throw malformed(`duplicate field "${key}"`);
    if (present.length === 0) {
      out[key] = defaultOf(field);
      continue;
    }
    if (field.oneof !== undefined) {
      if (taken.has(field.oneof)) throw malformed(`error parsing "${key}", oneof ${field.oneof} is already set`);
      taken.add(field.oneof);
    }
    out[key] = fieldValue(schema, key, field, (given as Values)[present[0] as string], depth);
  }
  return out;
}

function fieldValue(schema: Schema, key: string, field: Field, value: unknown, depth: number): unknown {
  const wrong = (): StatusError => malformed(`invalid value for ${field.kind} field ${key} of ${schema.name}`);
  const one = (item: unknown): unknown => {
    switch (field.kind) {
      case "bytes": {
        const bytes = typeof item === "string" ? bytesOf(item) : undefined;
        if (bytes === undefined) throw wrong();
        return bytes;
      }
      case "string":
        if (typeof item !== "string") throw wrong();
        return item;
      case "bool":
        if (typeof item !== "boolean") throw wrong();
        return item;
      case "int64": {
        const whole = integerOf(item);
        if (whole === undefined || whole < MIN_INT64 || whole > MAX_INT64) throw wrong();
        return Math.max(Math.min(Number(whole), Number.MAX_SAFE_INTEGER), Number.MIN_SAFE_INTEGER);
      }
      case "uint64": {
        const whole = integerOf(item);
        if (whole === undefined || whole < 0n || whole > MAX_UINT64) throw wrong();
        return whole;
      }
      case "enum": {
        const at = typeof item === "string" ? field.values?.indexOf(item) : item;
        if (!Number.isInteger(at) || at !== (at as number) << 0 || (typeof item === "string" && at < 0)) throw wrong();
        return at;
      }
      case "message":
        return messageOf(field.message?.() as Schema, item, depth + 1);
    }
  };
  if (field.repeated !== true) return one(value);
  if (!Array.isArray(value)) throw wrong();
  return value.map(one);
}

/** A JSON number or a string of one, undefined when it is not whole. */
function integerOf(value: unknown): bigint | undefined {
  if (typeof value === "number") return Number.isInteger(value) ? BigInt(value) : undefined;
  return typeof value === "string" && /^-?\d{1,20}$/.test(value) ? BigInt(value) : undefined;
}

/** Base64 with either alphabet, padded or not, as protobuf's reader takes it. */
function bytesOf(text: string): Uint8Array | undefined {
  const kept = text.replace(/[\r\n]/g, "");
  if (!/^(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}$/.test(kept)) return undefined;
  const padding = kept.length - kept.replace(/=+$/, "").length;
  if (padding > 0 ? kept.length % 4 !== 0 : kept.length % 4 === 1) return undefined;
  return new Uint8Array(Buffer.from(kept, kept.includes("-") || kept.includes("_") ? "base64url" : "base64"));
}
