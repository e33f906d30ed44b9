// Mvcc: keys with all their values since the last compaction, as etcd's mvcc package has them. Every write happens at a
// revision of the whole store; a read is of one revision, now or then. What is written by one request shares one revision.
// store.ts calls it, one request at a time.
//
// In memory a key is a string with a character for each byte, because such strings compare as their bytes do and can be keys of
// a Map. A key's versions are a list that only grows; a compaction puts a new list in its place. So whoever holds a list and
// its length, as snapshot() does, holds the past.

import { statusError } from "./errors.js";
import { KeyIndex } from "./key-index.js";
import type { KeyValue } from "./messages.js";

/** What a key was from `mod` on. */
export interface Version {
  readonly mod: number;
  readonly create: number;
  /** How many puts since the key came to be. 0: it was deleted. */
  readonly version: number;
  readonly value: Uint8Array;
  readonly lease: number;
}

/** Keys in [key, end); without an end the key alone; an end of one zero byte stands for no end at all. */
export interface Interval {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
}

export interface ReadOptions {
  /** 0 or less: now. */
  readonly revision?: number;
  /** At most so many; 0 or less: all. */
  readonly limit?: number;
  readonly countOnly?: boolean;
}

export interface ReadResult {
  /** In the order of their keys. */
  readonly kvs: KeyValue[];
  /** All that are there, whatever the limit. */
  readonly count: number;
  /** The newest one at the time of the read. */
  readonly revision: number;
}

const NOTHING = new Uint8Array(0);
/** What a version costs beside its key and value, roughly. */
const OVERHEAD = 64;

export function stringOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

export function bytesOf(key: string): Uint8Array {
  return new Uint8Array(Buffer.from(key, "latin1"));
}

export class Mvcc {
  /** Of the last write; a store that was never written to is at 1. */
  #revision = 1;
  #compacted = -1;
  #bytes = 0;
  /** Something was written at #revision + 1, which is not yet over. */
  #changed = false;
  readonly #index = new KeyIndex();
  readonly #versions = new Map<string, readonly Version[]>();

  /** The newest revision: inside of a write that has changed something, the one that it makes. */
  get revision(): number {
    return this.#changed ? this.#revision + 1 : this.#revision;
  }

  /** The oldest revision that can be read once there was a compaction; -1 before. */
  get compactRevision(): number {
    return this.#compacted;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Every write that `change` makes is of one revision. It must not throw: there is no way back. */
  write<T>(change: () => T): T {
    const result = change();
    this.#revision = this.revision;
    this.#changed = false;
    return result;
  }

  /** Whether `revision` can be read. @throws StatusError: it is compacted, or yet to come. */
  check(revision: number): void {
    if (revision > this.revision) throw statusError("futureRevision");
    if (revision < this.#compacted) throw statusError("compacted");
  }

  /** @throws StatusError when there is no such revision, or none any more. */
  read({ key, rangeEnd }: Interval, options: ReadOptions = {}): ReadResult {
    const { revision = 0, limit = 0, countOnly = false } = options;
    const at = revision > 0 ? revision : this.revision;
    this.check(at);
    const kvs: KeyValue[] = [];
    let count = 0;
    for (const name of this.#keysIn(key, rangeEnd)) {
      const found = this.#at(name, at);
      if (found === undefined || found.version === 0) continue;
      count++;
      if (!countOnly && (limit <= 0 || kvs.length < limit)) kvs.push(keyValueOf(name, found));
    }
    return { kvs, count, revision: this.revision };
  }

  /** The key as it is now. */
  get(key: Uint8Array): KeyValue | undefined {
    const name = stringOf(key);
    const found = this.#at(name, this.revision);
    return found === undefined || found.version === 0 ? undefined : keyValueOf(name, found);
  }

  /** Within write(). */
  put(key: Uint8Array, value: Uint8Array, lease: number): void {
    const name = stringOf(key);
    const before = this.#versions.get(name)?.at(-1);
    const mod = this.#revision + 1;
    const lives = before !== undefined && before.version > 0;
    this.#add(name, {
      mod,
      create: lives ? before.create : mod,
      version: lives ? before.version + 1 : 1,
      value,
      lease,
    });
  }

  /** Within write(). Returns how many there were. */
  deleteRange({ key, rangeEnd }: Interval): number {
    const living = [...this.#keysIn(key, rangeEnd)].filter((name) => this.#versions.get(name)?.at(-1)?.version !== 0);
    const mod = this.#revision + 1;
    for (const name of living) this.#add(name, { mod, create: 0, version: 0, value: NOTHING, lease: 0 });
    return living.length;
  }

  /**
   * Forgets what cannot be read at `revision` or later.
   * @throws StatusError when that has happened already, or `revision` is yet to come.
   */
  compact(revision: number): void {
    if (revision <= this.#compacted) throw statusError("compacted");
    if (revision > this.#revision) throw statusError("futureRevision");
    this.#compacted = revision;
    for (const [name, versions] of this.#versions) {
      let from = lastUpTo(versions, revision);
      // A deletion is told from a key that never was by nobody.
      if (from >= 0 && versions[from]?.version === 0) from++;
      if (from <= 0) continue;
      for (let i = 0; i < from; i++) this.#bytes -= sizeOf(name, versions[i] as Version);
      if (from < versions.length) {
        this.#versions.set(name, versions.slice(from));
      } else {
        this.#versions.delete(name);
        this.#index.delete(name);
      }
    }
  }

  /** Every version of every key, in order, as they are at the call: what is written later is not among them. */
  dump(): { readonly count: number; readonly versions: Iterable<readonly [key: string, version: Version]> } {
    const lists = [...this.#index.from("")].map((name) => {
      const list = this.#versions.get(name) ?? [];
      return { name, list, length: list.length };
    });
    return {
      count: lists.reduce((sum, { length }) => sum + length, 0),
      versions: (function* () {
        for (const { name, list, length } of lists) {
          for (let i = 0; i < length; i++) yield [name, list[i] as Version] as const;
        }
      })(),
    };
  }

  /** A store as dump() showed one. */
  static load(
    revision: number,
    compactRevision: number,
    versions: Iterable<readonly [key: string, version: Version]>,
  ): Mvcc {
    const store = new Mvcc();
    store.#revision = revision;
    store.#compacted = compactRevision;
    for (const [name, version] of versions) store.#add(name, version);
    store.#changed = false;
    return store;
  }

  #add(name: string, version: Version): void {
    const list = this.#versions.get(name) as Version[] | undefined;
    if (list === undefined) {
      this.#versions.set(name, [version]);
      this.#index.add(name);
    } else {
      list.push(version);
    }
    this.#bytes += sizeOf(name, version);
    this.#changed = true;
  }

  #at(name: string, revision: number): Version | undefined {
    const versions = this.#versions.get(name) ?? [];
    return versions[lastUpTo(versions, revision)];
  }

  *#keysIn(key: Uint8Array, rangeEnd: Uint8Array): Generator<string> {
    const start = stringOf(key);
    if (rangeEnd.length === 0) {
      if (this.#versions.has(start)) yield start;
      return;
    }
    const endless = rangeEnd.length === 1 && rangeEnd[0] === 0;
    const end = stringOf(rangeEnd);
    for (const name of this.#index.from(start)) {
      if (!endless && name >= end) return;
      yield name;
    }
  }
}

/** The index of the last one at or below `revision`, or -1. */
function lastUpTo(versions: readonly Version[], revision: number): number {
  let low = 0;
  let high = versions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((versions[middle] as Version).mod <= revision) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function sizeOf(name: string, version: Version): number {
  return name.length + version.value.length + OVERHEAD;
}

function keyValueOf(name: string, { mod, create, version, value, lease }: Version): KeyValue {
  return { key: bytesOf(name), createRevision: create, modRevision: mod, version, value, lease };
}
