// drawTimeline(): every change is on the page, with the fate that its atoms give it; nothing of a story becomes markup; big
// and empty stories stay pages.

import { describe, expect, it } from "vitest";
import type { CrashStory, StoryAtom } from "../../src/testing/crash-story.js";
import { drawTimeline } from "../../src/testing/crash-timeline.js";
import type { SimOperation } from "../../src/testing/sim-disk.js";

type Step = Omit<SimOperation, "number" | "at" | "path"> & { path?: string };

const WAL = "/log/wal";

function storyOf(steps: readonly Step[], atoms: readonly StoryAtom[] = [], more: Partial<CrashStory> = {}): CrashStory {
  const operations = steps.map((step, at) => ({ path: WAL, ...step, number: at + 1, at: 0 }));
  const rest = { line: "SEED=1", model: "posix", sectorBytes: 512, events: [], verdict: "clean", failed: false };
  return { ...rest, operations, atoms, ...more };
}

const write = (offset: number, bytes: number): Step => ({ operation: "write", offset, bytes });
const sector = (key: number, stamps: readonly number[], left: StoryAtom["left"]): StoryAtom => {
  return { kind: "sector", path: WAL, key, stamps, left };
};

/** What is drawn of an operation: the marks with its number, without their tooltips. */
function drawn(page: string, number: number): string {
  const marks = page.matchAll(/<g data-op="([\d ]+)"><title>[^<]*<\/title>(.*?)<\/g>/gs);
  return [...marks]
    .flatMap(([, numbers, inside]) => (numbers?.split(" ").includes(String(number)) ? [inside] : []))
    .join("");
}

/** The fates that the marks of an operation show, from the bottom up. */
function fatesOf(page: string, number: number): string[] {
  const fates = drawn(page, number).matchAll(/class="(moot|durable|kept|older|lost|torn|garbage)"/g);
  return [...fates].map(([, fate]) => fate as string);
}

/** The fates of the cells behind the crash. */
function cellsOf(page: string): string[] {
  const cells = page.matchAll(/<g class="atom"><title>[^<]*<\/title><rect [^>]*class="(\w+)"/g);
  return [...cells].map(([, fate]) => fate as string);
}

describe("drawTimeline()", () => {
  it("draws every operation that changes something, and names the others", () => {
    const page = drawTimeline(
      storyOf([
        { operation: "mkdir", path: "/log" },
        { operation: "syncDir", path: "/" },
        { operation: "stat", path: "/log/other" },
        { operation: "create" },
        write(0, 100),
        { operation: "sync" },
        { operation: "rename", to: "/log/0.seg" },
        { operation: "truncate", path: "/log/0.seg", offset: 50 },
        { operation: "unlink", path: "/log/0.seg" },
        { operation: "syncDir", path: "/log" },
      ]),
    );
    for (const number of [1, 2, 4, 5, 6, 7, 8, 9, 10]) expect(drawn(page, number), `operation ${number}`).not.toBe("");
    expect(page).toContain("#3 stat /log/other");
    expect(page).toContain("was wal");
    expect(page).toContain("#6 sync /log/wal, made durable: #5");
    expect(page).toContain("#10 syncDir /log, made durable: #4, #7, #9");
  });

  it("gives each write the fate of its sectors", () => {
    const page = drawTimeline(
      storyOf(
        [{ operation: "create" }, write(0, 512), { operation: "sync" }, write(512, 2048), write(512, 100)],
        [sector(1, [4, 5], 1), sector(2, [4], 0), sector(3, [4], "torn, new bytes first"), sector(4, [4], "garbage")],
      ),
    );
    expect(fatesOf(page, 2)).toEqual(["durable"]);
    expect(fatesOf(page, 4)).toEqual(["kept", "lost", "torn", "garbage"]);
    expect(fatesOf(page, 5)).toEqual(["lost"]);
    expect(cellsOf(page)).toEqual(["older", "lost", "torn", "garbage"]);
    expect(page).toContain("4 unsynced: 1 older, 1 lost, 1 torn, 1 garbage");
  });

  it("lets a write live on in the value that was written over it, torn or not", () => {
    const steps = [write(0, 100), write(100, 100)];
    for (const [left, fates] of [
      [2, ["kept", "kept"]],
      [1, ["kept", "lost"]],
      [0, ["lost", "lost"]],
      ["torn, old bytes first", ["kept", "torn"]],
    ] as const) {
      const page = drawTimeline(storyOf(steps, [sector(0, [1, 2], left)]));
      expect([...fatesOf(page, 1), ...fatesOf(page, 2)]).toEqual(fates);
    }
  });

  it("counts as lost what lies beyond the size that was left", () => {
    const size: StoryAtom = { kind: "size", path: WAL, key: 0, stamps: [4], left: 0 };
    const steps: Step[] = [{ operation: "create" }, write(0, 700), { operation: "sync" }, write(700, 900)];
    const page = drawTimeline(storyOf(steps, [size, sector(1, [4], 1), sector(2, [4], 1), sector(3, [4], 1)]));
    expect(fatesOf(page, 4)).toEqual(["lost"]);
    expect(cellsOf(page)).toEqual(["lost", "kept", "lost", "lost"]);
    expect(page).toContain("it lies beyond the size that was left");
  });

  it("tells both sides of a rename, and what became of names", () => {
    const name = (key: string, stamps: readonly number[], left: number): StoryAtom => {
      return { kind: "name", path: "/log", key, stamps, left };
    };
    const steps: Step[] = [{ operation: "create" }, { operation: "rename", to: "/log/0.seg" }];
    const page = drawTimeline(storyOf(steps, [name("wal", [1, 2], 1), name("0.seg", [2], 1)]));
    expect(fatesOf(page, 2)).toEqual(["lost", "kept"]);
    expect(page).toContain("wal removed by #2: older");
    expect(page).toContain("0.seg made by #2: kept");
  });

  it("marks what failed with its errno, and lets no failed or lying sync cover anything", () => {
    const failed: Step = { operation: "sync", error: "EIO" };
    const page = drawTimeline(
      storyOf([write(0, 10), failed, { operation: "sync", error: "lost" }], [sector(0, [1], 1)]),
    );
    expect(drawn(page, 2)).toContain(">EIO</text>");
    expect(drawn(page, 2)).toContain("sync broken");
    expect(drawn(page, 3)).toContain(">lost</text>");
    expect(page).not.toContain("made durable");
    expect(fatesOf(page, 1)).toEqual(["kept"]);
    const full = drawTimeline(storyOf([{ ...write(0, 10), error: "ENOSPC" }, { operation: "sync" }]));
    expect(fatesOf(full, 1)).toEqual(["moot"]);
    const refused = drawTimeline(storyOf([{ operation: "open", error: "EMFILE" }]));
    expect(drawn(refused, 1)).toContain(">EMFILE</text>");
  });

  it("loses nothing to a kill but the end of the write under way", () => {
    const steps: Step[] = [write(0, 10), { operation: "sync" }, write(10, 10)];
    const page = drawTimeline(storyOf(steps, [sector(0, [3], 17)], { model: "kill" }));
    expect(fatesOf(page, 1)).toEqual(["durable"]);
    expect(fatesOf(page, 3)).toEqual(["kept"]);
    expect(page).toContain("17 bytes got through");
  });

  it("tells what was called, acknowledged, rejected and left open", () => {
    const events = [
      { operation: 0, what: "append 1", kind: "called" },
      { operation: 1, what: "append 1", kind: "resolved" },
      { operation: 1, what: "append 1", kind: "called" },
      { operation: 1, what: "vote", kind: "called" },
      { operation: 2, what: "vote", kind: "rejected" },
    ] as const;
    const page = drawTimeline(storyOf([write(0, 1), write(1, 1)], [], { events }));
    for (const end of ["resolved", "rejected", "pending"]) {
      // Once in the chart, once in the legend.
      expect(page.match(new RegExp(`class="call ${end}"`, "g"))).toHaveLength(2);
    }
    expect(page).toContain("called after operation 0, resolved after operation 1");
    expect(page).toContain("1 acknowledged");
  });

  it("says the verdict in words and colour, and the line to replay", () => {
    expect(drawTimeline(storyOf([]))).toContain('<p class="verdict ok">');
    const failed = drawTimeline(storyOf([], [], { failed: true, verdict: "entry 3 is gone", line: "SEED=7 POINT=1" }));
    expect(failed).toContain('<p class="verdict failed"><strong>✗ recovery failed</strong> entry 3 is gone</p>');
    expect(failed).toContain('<pre class="replay">SEED=7 POINT=1</pre>');
  });

  it("lets nothing of a story become markup", () => {
    const evil = `</title><script>alert("1")</script>&'\u0000\u001b`;
    const path = `/log/${evil.replaceAll("/", "")}`;
    const steps: Step[] = [
      { operation: "create", path },
      { ...write(0, 600), path },
      { operation: "rename", path, to: `${path}2` },
      { operation: "sync", path: `${path}2`, error: evil },
    ];
    const atoms: StoryAtom[] = [
      { kind: "name", path: "/log", key: evil, stamps: [1], left: 0 },
      { kind: "sector", path, key: 0, stamps: [2], left: 1 },
    ];
    const events = [{ operation: 1, what: evil, kind: "called" }] as const;
    const page = drawTimeline(storyOf(steps, atoms, { line: evil, model: evil, verdict: evil, failed: true, events }));
    expect(page).not.toContain("<script");
    expect(page).not.toMatch(/[\0-\x08\x0b-\x1f]/);
    // Every attribute is quoted and every text escaped: what is between the tags has no bracket left.
    expect(page.replaceAll(/<style>.*?<\/style>/gs, "").replaceAll(/<\/?[a-z!][^<>]*>/gi, "")).not.toMatch(/[<>]/);
  });

  it("asks nothing of a network and runs nothing", () => {
    const page = drawTimeline(storyOf([write(0, 1)]));
    expect(page).not.toMatch(/<script|https?:|@import|src=|<link/);
    expect(page).toContain("prefers-color-scheme:dark");
  });

  it("draws empty stories", () => {
    const page = drawTimeline(storyOf([], [], { line: "", verdict: "" }));
    expect(page).toContain("no operations");
    expect(page).not.toContain("NaN");
    expect(page).not.toContain("Infinity");
    // What a run before this one has left unsynced has no operation here.
    expect(cellsOf(drawTimeline(storyOf([], [sector(0, [5], 1), { ...sector(0, [6], 0), path: "" }])))).toHaveLength(2);
  });

  it("keeps big stories within bounds, with every change in them", () => {
    const steps: Step[] = [];
    for (let file = 0; file < 60; file++) {
      const path = `/log/${file}.seg`;
      steps.push({ operation: "create", path }, { operation: "stat", path });
      for (let i = 0; i < 30; i++) steps.push({ ...write(i * 400, 400), path });
      if (file < 59) steps.push({ operation: "sync", path }, { operation: "syncDir", path: "/log" });
    }
    const last = steps.length - 30;
    const atoms = Array.from({ length: 300 }, (_, key) => sector(key, [last + Math.floor(key / 11)], key % 2));
    const page = drawTimeline(
      storyOf(
        steps,
        atoms.map((atom) => ({ ...atom, path: "/log/59.seg" })),
      ),
    );
    const [wide] = /width="(\d+)"[^>]*aria-label="operations"/.exec(page)?.slice(1) ?? [];
    expect(Number(wide)).toBeGreaterThan(400);
    expect(Number(wide)).toBeLessThan(1900);
    const numbers = new Set([...page.matchAll(/data-op="([\d ]+)"/g)].flatMap(([, text = ""]) => text.split(" ")));
    for (const [at, { operation }] of steps.entries()) {
      if (operation !== "stat") expect(numbers.has(String(at + 1)), `operation ${at + 1}`).toBe(true);
    }
    expect(cellsOf(page).length).toBeLessThanOrEqual(100);
    expect(page).toContain("300 unsynced: 150 kept, 150 lost");
    expect(page).toContain("other files");
    expect(page).not.toContain("NaN");
    expect(page.length).toBeLessThan(1_000_000);
  });

  it("gives the same page for the same story", () => {
    const story = storyOf([{ operation: "create" }, write(0, 900)], [sector(0, [2], 1), sector(1, [2], 0)]);
    expect(drawTimeline(story)).toBe(drawTimeline(structuredClone(story)));
  });
});
