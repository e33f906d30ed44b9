// GroupCommit with a sink that only remembers: which saves share a group, when groups go out, what a failure takes with
// it, and that bytes under way are nobody else's.

import { describe, expect, it, vi } from "vitest";
import { type Group, GroupCommit, type GroupSink } from "../../src/wal/group-commit.js";
import { type Slab, SlabPool } from "../../src/wal/slab.js";
import { turns } from "./helpers.js";

interface Attempt {
  readonly group: Group;
  /** The group's bytes when it was handed over. */
  readonly text: string;
  finish(error?: unknown): void;
}

/** Remembers every group; commits at once, or when its test says so. */
class FakeSink implements GroupSink {
  readonly attempts: Attempt[] = [];
  readonly failures: unknown[] = [];
  pauses = 0;
  quick = true;
  later = false;
  throwNext: unknown;

  commit(group: Group): Promise<void> | undefined {
    const text = textOf(group);
    if (this.throwNext !== undefined) {
      const error = this.throwNext;
      this.throwNext = undefined;
      throw error;
    }
    if (!this.later) {
      this.attempts.push({ group, text, finish: () => {} });
      return undefined;
    }
    return new Promise((resolve, reject) => {
      this.attempts.push({ group, text, finish: (error) => (error === undefined ? resolve() : reject(error)) });
    });
  }

  pause(): void {
    this.pauses++;
  }

  failed(error: unknown): { group: unknown; queued: unknown } {
    this.failures.push(error);
    return { group: `group: ${String(error)}`, queued: `queued: ${String(error)}` };
  }

  get texts(): string[] {
    return this.attempts.map(({ text }) => text);
  }
}

function textOf(group: Group): string {
  return new TextDecoder().decode(group.slab.bytes.slice(group.start, group.end));
}

function setup(maxGroupBytes = 1000, later = false): { sink: FakeSink; commit: GroupCommit; pool: SlabPool } {
  const sink = new FakeSink();
  sink.later = later;
  const pool = new SlabPool(0);
  return { sink, commit: new GroupCommit(sink, pool, maxGroupBytes), pool };
}

/** Saves `text`, in the way of log.ts: reserve more than is needed, write, join with what it took. */
function save(commit: GroupCommit, text: string, mustSync = true, spare = 0): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  const group = commit.reserve(bytes.length + spare);
  expect(group.slab.bytes.length).toBeGreaterThanOrEqual(group.end + bytes.length + spare);
  group.slab.bytes.set(bytes, group.end);
  return commit.join(group, bytes.length, mustSync);
}

/** How each promise stands: its error, true when it resolved, undefined while it is pending. */
async function states(promises: readonly Promise<void>[]): Promise<unknown[]> {
  const pending = Symbol("pending");
  const settled = promises.map((promise) =>
    promise.then(
      () => true,
      (error: unknown) => error,
    ),
  );
  return Promise.all(
    settled.map((one) =>
      Promise.race([
        one,
        Promise.resolve()
          .then(() => {})
          .then(() => pending),
      ]),
    ),
  ).then((all) => all.map((one) => (one === pending ? undefined : one)));
}

describe("GroupCommit pauses", () => {
  it("once a group is followed by none, not while one follows the other", async () => {
    const { sink, commit } = setup();
    for (const text of ["a", "b", "c"]) {
      await save(commit, text);
      expect(sink.pauses).toBe(0);
    }
    await turns(2);
    expect(sink.pauses).toBe(1);
    await turns(3);
    expect(sink.pauses).toBe(1);
    await save(commit, "d");
    await turns(2);
    expect(sink.pauses).toBe(2);
  });

  it("before it waits for a gate, and not behind a failure", async () => {
    const { sink, commit } = setup();
    const first = save(commit, "a");
    let open = (): void => {};
    commit.gate(
      new Promise((resolve) => {
        open = resolve;
      }),
    );
    const gated = save(commit, "b");
    await first;
    await turns(2);
    expect(sink.pauses).toBe(1);
    sink.throwNext = new Error("full");
    open();
    await expect(gated).rejects.toBe("group: Error: full");
    await turns(3);
    expect(sink.pauses).toBe(1);
  });
});

describe("GroupCommit groups", () => {
  it("share one group for the saves of one turn, and one promise", async () => {
    const { sink, commit } = setup();
    const saves = [save(commit, "a", false), save(commit, "b"), save(commit, "c", false)];
    expect(new Set(saves).size).toBe(1);
    expect(sink.texts).toEqual([]);
    expect(commit.pendingBytes).toBe(3);
    await saves[0];
    expect(sink.texts).toEqual(["abc"]);
    expect(sink.attempts[0]?.group).toMatchObject({ saves: 3, mustSync: true, used: 3 });
    expect(commit.pendingBytes).toBe(0);
    expect(commit.queued).toEqual([]);
  });

  it("ask for no sync when none of their saves does", async () => {
    const { sink, commit } = setup();
    await Promise.all([save(commit, "a", false), save(commit, "b", false)]);
    expect(sink.attempts[0]?.group.mustSync).toBe(false);
  });

  it("go out in the check phase of the same turn, microtasks included, without a timer", async () => {
    const { sink, commit } = setup();
    const timers = vi.spyOn(globalThis, "setTimeout");
    const intervals = vi.spyOn(globalThis, "setInterval");
    try {
      await turns();
      const saved = save(commit, "a");
      // Everything that the same turn still does joins in.
      await Promise.resolve();
      await new Promise<void>((resolve) => process.nextTick(resolve));
      const second = save(commit, "b");
      expect(sink.texts).toEqual([]);
      await turns();
      expect(sink.texts).toEqual(["ab"]);
      await Promise.all([saved, second]);
      expect(timers).not.toHaveBeenCalled();
      expect(intervals).not.toHaveBeenCalled();
    } finally {
      timers.mockRestore();
      intervals.mockRestore();
    }
  });

  it("are one for all that arrives while the one before is under way", async () => {
    const { sink, commit } = setup(1000, true);
    const first = save(commit, "a");
    await turns();
    expect(sink.texts).toEqual(["a"]);
    const rest = [save(commit, "b")];
    await turns(3);
    rest.push(save(commit, "c"));
    await turns(3);
    expect(sink.texts).toEqual(["a"]);
    expect(new Set([first, ...rest]).size).toBe(2);
    sink.attempts[0]?.finish();
    await first;
    // The savers that the first group woke share the second one: it does not go out before they have been heard.
    expect(sink.texts).toEqual(["a"]);
    rest.push(save(commit, "d"));
    await turns();
    expect(sink.texts).toEqual(["a", "bcd"]);
    sink.attempts[1]?.finish();
    await Promise.all(rest);
  });

  it("reach the sink one at a time and in the order of their saves", async () => {
    const { sink, commit } = setup(4, true);
    const saves = ["one", "two", "six", "ten"].map((text) => save(commit, text));
    expect(commit.queued).toHaveLength(4);
    expect(commit.pendingBytes).toBe(12);
    for (let i = 0; i < 4; i++) {
      await turns(2);
      expect(sink.attempts).toHaveLength(i + 1);
      expect(await states(saves)).toEqual(saves.map((_, at) => (at < i ? true : undefined)));
      expect(commit.pendingBytes).toBe(12 - 3 * i);
      sink.attempts[i]?.finish();
    }
    await Promise.all(saves);
    expect(sink.texts).toEqual(["one", "two", "six", "ten"]);
  });

  it("take no more saves than maxGroupBytes, and a single larger one alone", async () => {
    const { sink, commit } = setup(10);
    const saves = ["1234", "5678", "9", "x", "y".repeat(25), "z"].map((text) => save(commit, text));
    await Promise.all(saves);
    expect(sink.texts).toEqual(["123456789x", "y".repeat(25), "z"]);
  });

  it("count what a save reserved against maxGroupBytes, not what it took", async () => {
    const { sink, commit } = setup(10);
    await Promise.all([save(commit, "12", true, 0), save(commit, "34", true, 9)]);
    expect(sink.texts).toEqual(["12", "34"]);
  });

  it("keep what was written when a reserve makes them grow", async () => {
    const { sink, commit } = setup(10 * 2 ** 20);
    const parts = ["a".repeat(50_000), "b".repeat(40_000), "c".repeat(300_000), "d"];
    const saves = parts.map((text) => save(commit, text));
    await Promise.all(saves);
    expect(sink.texts).toEqual([parts.join("")]);
    expect(new Set(saves).size).toBe(1);
  });
});

describe("GroupCommit does not wait for the event loop", () => {
  /** Savers that save again as soon as they are woken, `hops` microtasks later; the rounds that went out within one turn. */
  async function roundsATurn(commit: GroupCommit, sink: FakeSink, hops = 0, text = "x"): Promise<string[][]> {
    let stop = false;
    const saver = async (): Promise<void> => {
      while (!stop) {
        await save(commit, text);
        for (let hop = 0; hop < hops; hop++) await Promise.resolve();
      }
    };
    const savers = [saver(), saver(), saver()];
    const rounds: string[][] = [];
    for (let turn = 0; turn < 4; turn++) {
      const before = sink.attempts.length;
      await turns();
      rounds.push(sink.texts.slice(before));
    }
    stop = true;
    await Promise.all(savers);
    return rounds;
  }

  it("with savers that a group wakes and that save again at once, all of them together, eight groups a turn", async () => {
    for (const hops of [0, 1, 5]) {
      const { sink, commit } = setup();
      const [, ...rounds] = await roundsATurn(commit, sink, hops);
      for (const round of rounds) expect(round).toEqual(Array.from({ length: 8 }, () => "xxx"));
    }
  });

  it("unless groups take long, or are large", async () => {
    const { sink, commit } = setup();
    sink.quick = false;
    const [, ...slow] = await roundsATurn(commit, sink);
    for (const round of slow) expect(round).toEqual(["xxx"]);
    const large = setup(2 ** 20);
    const [, ...rounds] = await roundsATurn(large.commit, large.sink, 0, "y".repeat(100_000));
    for (const round of rounds) expect(round).toHaveLength(2);
  });

  it("but with savers that come one by one: they share the next turn's group", async () => {
    const { sink, commit } = setup();
    const saves = [save(commit, "a")];
    // In the same check phase, behind the group, each a callback of its own, as sockets' are.
    for (const text of ["b", "c", "d"]) setImmediate(() => saves.push(save(commit, text)));
    await turns(3);
    await Promise.all(saves);
    expect(sink.texts).toEqual(["a", "bcd"]);
  });

  it("but lets whoever comes with the next turn share that turn's group", async () => {
    const { sink, commit } = setup();
    await save(commit, "a");
    await turns(2);
    const saves = [save(commit, "b")];
    await new Promise<void>((resolve) => process.nextTick(resolve));
    saves.push(save(commit, "c"));
    await Promise.all(saves);
    expect(sink.texts).toEqual(["a", "bc"]);
  });
});

describe("GroupCommit slabs", () => {
  it("are used again, and a group under way is not written over", async () => {
    const { sink, commit } = setup(1000, true);
    const slabs = new Set<Slab>();
    for (let round = 0; round < 20; round++) {
      const saved = save(commit, `under way ${round}`);
      await turns();
      const attempt = sink.attempts.at(-1);
      // Whatever is saved, grown and given up meanwhile goes elsewhere.
      const next = save(commit, `next ${round} ${"x".repeat(70_000)}`);
      expect(commit.queued).toHaveLength(2);
      expect(attempt === undefined ? "" : textOf(attempt.group)).toBe(`under way ${round}`);
      attempt?.finish();
      await saved;
      await turns();
      sink.attempts.at(-1)?.finish();
      await next;
      for (const { group } of sink.attempts) slabs.add(group.slab);
    }
    expect(sink.texts.filter((text) => text.startsWith("under way"))).toHaveLength(20);
    expect(slabs.size).toBeLessThan(5);
  });

  it("are filled one group behind the other while somebody reads them, and written over when nobody does", async () => {
    const { sink, commit, pool } = setup(1000);
    await save(commit, "a");
    await save(commit, "b");
    const [first, second] = sink.attempts.map(({ group }) => group);
    expect([first?.start, second?.start]).toEqual([0, 0]);
    const slab = second?.slab as Slab;
    slab.users++;
    await save(commit, "c");
    await save(commit, "d");
    expect(sink.attempts.slice(2).map(({ group }) => [group.slab === slab, group.start])).toEqual([
      [true, 1],
      [true, 2],
    ]);
    expect(new TextDecoder().decode(slab.bytes.subarray(0, 3))).toBe("bcd");
    pool.release(slab);
    await save(commit, "e");
    expect(sink.attempts.at(-1)?.group.start).toBe(0);
  });

  it("that a reader was given views of are not written over, nor used again", async () => {
    const { sink, commit } = setup(100_000);
    await save(commit, "a");
    const slab = sink.attempts[0]?.group.slab as Slab;
    slab.lent = true;
    for (let i = 0; i < 10; i++) await save(commit, "x".repeat(10_000));
    expect(new TextDecoder().decode(slab.bytes.subarray(0, 2))).toBe("ax");
    expect(sink.attempts.at(-1)?.group.slab).not.toBe(slab);
    expect(sink.attempts.slice(1).every(({ group }) => group.slab !== slab || group.start > 0)).toBe(true);
  });

  it("of a failed group are not used again: its write may still be under way", async () => {
    const { sink, commit } = setup(1000, true);
    const lost = save(commit, "lost");
    await turns();
    const slab = sink.attempts[0]?.group.slab;
    sink.attempts[0]?.finish("disk");
    await expect(lost).rejects.toBe("group: disk");
    for (let i = 0; i < 5; i++) {
      const group = commit.reserve(4);
      expect(group.slab).not.toBe(slab);
      const saved = commit.join(group, 4, true);
      await turns();
      sink.attempts.at(-1)?.finish();
      await saved;
    }
  });

  it("that one huge save made are let go", async () => {
    const { sink, commit } = setup(1000);
    const group = commit.reserve(17 * 2 ** 20);
    const huge = group.slab;
    await commit.join(group, 1, true);
    expect(huge.bytes.length).toBe(17 * 2 ** 20);
    // Everything that makes a new slab necessary.
    huge.lent = true;
    for (let i = 0; i < 3; i++) await save(commit, "x".repeat(7 * 2 ** 20));
    await save(commit, "small");
    expect(huge.users).toBe(0);
    expect(sink.attempts.at(-1)?.group.slab).not.toBe(huge);
  });
});

describe("GroupCommit failure", () => {
  for (const how of ["throws", "rejects"] as const) {
    it(`rejects the group and all that is queued behind it when the sink ${how}`, async () => {
      const { sink, commit } = setup(3, how === "rejects");
      if (how === "throws") sink.throwNext = "disk";
      const saves = ["aaa", "bbb", "ccc"].map((text) => save(commit, text));
      const ends = Promise.allSettled(saves);
      await turns();
      if (how === "rejects") sink.attempts[0]?.finish("disk");
      expect(await ends).toEqual([
        { status: "rejected", reason: "group: disk" },
        { status: "rejected", reason: "queued: disk" },
        { status: "rejected", reason: "queued: disk" },
      ]);
      expect(sink.failures).toEqual(["disk"]);
      expect(commit.pendingBytes).toBe(0);
      expect(commit.queued).toEqual([]);
      expect(sink.attempts).toHaveLength(how === "rejects" ? 1 : 0);
    });
  }

  it("is over once it was told: later saves go out again", async () => {
    const { sink, commit } = setup();
    sink.throwNext = "full";
    await expect(save(commit, "a")).rejects.toBe("group: full");
    await save(commit, "b");
    expect(sink.texts).toEqual(["b"]);
  });

  it("of a group that nobody holds a promise of is no unhandled rejection", async () => {
    const { sink, commit } = setup(3);
    const unhandled: unknown[] = [];
    const listener = (error: unknown): void => {
      unhandled.push(error);
    };
    process.on("unhandledRejection", listener);
    try {
      sink.throwNext = "disk";
      const saved = save(commit, "aaa");
      commit.reserve(3);
      await expect(saved).rejects.toBe("group: disk");
      await turns(3);
      expect(unhandled).toEqual([]);
    } finally {
      process.off("unhandledRejection", listener);
    }
  });
});

describe("GroupCommit gates", () => {
  function gate(): { promise: Promise<void>; open: () => void; fail: (error: unknown) => void } {
    let open = (): void => {};
    let fail = (_error: unknown): void => {};
    const promise = new Promise<void>((resolve, reject) => {
      open = resolve;
      fail = reject;
    });
    return { promise, open, fail };
  }

  it("hold back the saves after them and not those before", async () => {
    const { sink, commit } = setup();
    const { promise, open } = gate();
    const before = save(commit, "before");
    commit.gate(promise);
    const after = [save(commit, "after"), save(commit, "too")];
    await before;
    await turns(5);
    after.push(save(commit, "late"));
    await turns(5);
    expect(sink.texts).toEqual(["before"]);
    expect(await states(after)).toEqual([undefined, undefined, undefined]);
    open();
    await Promise.all(after);
    expect(sink.texts).toEqual(["before", "aftertoo", "late"]);
  });

  it("reject what waits for them, and what is queued behind that", async () => {
    const { sink, commit } = setup();
    const { promise, fail } = gate();
    commit.gate(promise);
    const gated = save(commit, "gated");
    await turns(2);
    const behind = save(commit, "behind");
    const ends = Promise.allSettled([gated, behind]);
    fail("no file");
    expect(await ends).toEqual([
      { status: "rejected", reason: "group: no file" },
      { status: "rejected", reason: "queued: no file" },
    ]);
    expect(sink.texts).toEqual([]);
    await save(commit, "again");
    expect(sink.texts).toEqual(["again"]);
  });

  it("that fail long before their turn are no unhandled rejection", async () => {
    const { sink, commit } = setup(1000, true);
    const first = save(commit, "a");
    await turns();
    commit.gate(Promise.reject(new Error("early")));
    const gated = save(commit, "b");
    await turns(5);
    expect(await states([gated])).toEqual([undefined]);
    sink.attempts[0]?.finish();
    await first;
    await expect(gated).rejects.toBe("group: Error: early");
  });

  it("that no save follows hold up nobody who waits for the queue", async () => {
    const { sink, commit } = setup();
    commit.gate(Promise.resolve());
    await commit.settled();
    expect(commit.queued).toEqual([]);
    commit.gate(Promise.reject(new Error("none")));
    await expect(commit.settled()).rejects.toBe("group: Error: none");
    await save(commit, "a");
    expect(sink.texts.filter((text) => text !== "")).toEqual(["a"]);
  });
});

describe("settled()", () => {
  it("resolves when all saves so far have, and at once when there are none", async () => {
    const { sink, commit } = setup(3, true);
    await commit.settled();
    const saves = [save(commit, "aaa"), save(commit, "bbb")];
    let settled = false;
    const all = commit.settled().then(() => {
      settled = true;
    });
    await turns();
    sink.attempts[0]?.finish();
    await turns(2);
    expect(settled).toBe(false);
    const later = save(commit, "ccc");
    sink.attempts[1]?.finish();
    await all;
    expect(await states([...saves, later])).toEqual([true, true, undefined]);
    await turns(2);
    sink.attempts[2]?.finish();
    await later;
  });

  it("rejects when one of them does", async () => {
    const { sink, commit } = setup();
    sink.throwNext = "disk";
    const saved = save(commit, "a");
    await expect(commit.settled()).rejects.toBe("group: disk");
    await expect(saved).rejects.toBe("group: disk");
  });
});
