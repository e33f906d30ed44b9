// CrashStory: one crash told operation by operation: what was asked of the disk, what was promised to whom and when, what
// was synced, what was not, and what the crash left of that. Made by replays; crash-timeline.ts draws it.

import type { Atom, CrashPoint, Mask } from "./crash-point.js";
import type { SimOperation } from "./sim-disk.js";

/** Something that the program under test was asked for, or said. */
export interface StoryEvent {
  /** The number of the last disk operation before it. */
  readonly operation: number;
  readonly what: string;
  readonly kind: "called" | "resolved" | "rejected";
}

/** Something that was not synced, and what became of it. */
export interface StoryAtom {
  readonly kind: Atom["kind"];
  /** Of the file, or of the directory for a name. */
  readonly path: string;
  /** The name, the sector's number, 0 for a size. */
  readonly key: string | number;
  /** The operations that made its values, oldest first. */
  readonly stamps: readonly number[];
  /** How many of those values came through: 0 is none; or what else became of it. */
  readonly left: number | "torn, new bytes first" | "torn, old bytes first" | "garbage";
}

export interface CrashStory {
  /** The line that replays it. */
  readonly line: string;
  readonly model: string;
  readonly sectorBytes: number;
  /** Up to the crash. */
  readonly operations: readonly SimOperation[];
  readonly events: readonly StoryEvent[];
  readonly atoms: readonly StoryAtom[];
  /** What was found afterwards. */
  readonly verdict: string;
  readonly failed: boolean;
  /** The crash within the recovery of this one, where there was one. */
  readonly within?: CrashStory | undefined;
}

/** What a crash met, at one level of crashes within recoveries. */
export type StoryLevel = Pick<CrashStory, "operations" | "atoms">;

/** The story of crashes one within the recovery of the other, outermost first. */
export function chained(
  levels: readonly StoryLevel[],
  { events, ...rest }: Omit<CrashStory, "operations" | "atoms" | "within">,
): CrashStory {
  const [first, ...inner] = levels as readonly [StoryLevel, ...StoryLevel[]];
  const within = inner.length === 0 ? {} : { within: chained(inner, { ...rest, events: [] }) };
  return { ...rest, ...first, events, ...within };
}

const LEFT: Readonly<Record<number, StoryAtom["left"]>> = {
  100: "torn, new bytes first",
  101: "torn, old bytes first",
  102: "garbage",
};

/** What a mask means, atom by atom. */
export function storyAtoms(point: CrashPoint, mask: Mask): StoryAtom[] {
  const newest = point.newest();
  return point.atoms.map(({ kind, inode, key, stamps }, at) => {
    const choice = mask[at] ?? 0;
    // A kill counts bytes; elsewhere the last choice is the last value, however many there were.
    const left = point.model === "kill" ? choice : choice === newest[at] ? stamps.length : (LEFT[choice] ?? choice);
    return { kind, path: point.pathOf(inode), key, stamps, left };
  });
}
