// drawTimeline(): a crash as a picture. Takes the story of a replay and gives one HTML page that needs nothing else: time
// runs to the right, one lane a file, and behind the crash what it left. Pure: the same story gives the same page.
//
// Three steps: tell() works out what became of every operation, lay() gives each a place in time and its lane, and the rest
// draws. Markup is only made by tag(), which escapes, so that no path and no message can end up as markup.

import type { CrashStory, StoryAtom } from "./crash-story.js";
import type { SimOperation } from "./sim-disk.js";

/** What became of something, from harmless to bad: a mark that stands for several shows the worst. */
const FATES = {
  moot: "overwritten or removed before the crash",
  durable: "synced before the crash",
  kept: "not synced, came through",
  older: "not synced, an older value came through",
  lost: "not synced, lost",
  torn: "not synced, torn",
  garbage: "not synced, garbage",
} as const;
type Fate = keyof typeof FATES;
const SHORT: Readonly<Record<Fate, string>> = {
  moot: "overwritten",
  durable: "durable",
  kept: "kept",
  older: "older",
  lost: "lost",
  torn: "torn",
  garbage: "garbage",
};
const fates = Object.keys(FATES) as Fate[];

const LABELS = 200;
const COLUMN = 350;
const MOST_CHART = 1820;
const HEAD = 40;
/** Beyond so many changes the oldest share slots: what led to a crash is near it. */
const MOST_SLOTS = 260;
const SINGLE_SLOTS = 200;
const MOST_LANES = 24;
const MOST_CELLS = 100;
const MOST_NAMES = 8;
const MOST_CALL_ROWS = 8;
const MOST_TOLD = 12;
const CELL = 13;
const CALL = 17;

const NAME_CHANGES = new Set(["create", "mkdir", "rmdir", "rename", "unlink"]);
const ABOUT_DIRECTORIES = new Set(["list", "syncDir", "lock", "unlock"]);
const SIGNS: Readonly<Record<string, string>> = { create: "+", mkdir: "+", rename: "→", unlink: "−", rmdir: "−" };
const DRAWN = new Set([...NAME_CHANGES, "write", "truncate", "sync", "syncDir"]);

// ---- markup

class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}
type Child = Markup | string | undefined | readonly Child[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Control characters are no HTML, whatever way they are written. */
function escaped(text: string): string {
  return text.replace(/[\0-\x08\x0b-\x1f\x7f]/g, "\ufffd").replace(/[&<>"']/g, (each) => ENTITIES[each] as string);
}

function render(child: Child): string {
  if (child === undefined) return "";
  if (child instanceof Markup) return child.text;
  return typeof child === "string" ? escaped(child) : child.map(render).join("");
}

function tag(name: string, attributes: Record<string, string | number | undefined>, ...inside: Child[]): Markup {
  let text = `<${name}`;
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    text += ` ${key}="${escaped(String(typeof value === "number" ? Math.round(value * 10) / 10 : value))}"`;
  }
  return new Markup(`${text}>${render(inside)}</${name}>`);
}

const line = (x1: number, y1: number, x2: number, y2: number, look: string, ...inside: Child[]): Markup =>
  tag("line", { x1, y1, x2, y2, class: look }, ...inside);
const box = (x: number, y: number, width: number, height: number, look: string, ...inside: Child[]): Markup =>
  tag("rect", { x, y, width, height, class: look }, ...inside);
const words = (x: number, y: number, look: string, text: string, anchor?: "end" | "middle"): Markup =>
  tag("text", { x, y, class: look, "text-anchor": anchor }, text);
const path = (d: string, look: string, ...inside: Child[]): Markup =>
  tag("path", { d: d.replace(/\.(\d)\d+/g, ".$1"), class: look }, ...inside);
const dot = (cx: number, cy: number, r: number, look: string, ...inside: Child[]): Markup =>
  tag("circle", { cx, cy, r, class: look }, ...inside);
const title = (text: string): Markup => tag("title", {}, text);

/** About as wide as small text is drawn. */
const widthOf = (text: string): number => text.length * 6;

/** At most `most` characters, the middle left out: paths tell most by their ends. */
function shortened(text: string, most: number): string {
  if (text.length <= most) return text;
  const head = Math.floor((most - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - 1 - head))}`;
}

function entry<K, T>(lists: Map<K, T[]>, key: K): T[] {
  let list = lists.get(key);
  if (list === undefined) lists.set(key, (list = []));
  return list;
}

const largest = (all: readonly number[]): number => all.reduce((a, b) => Math.max(a, b), 0);
const smallest = (all: readonly number[]): number => all.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;

// ---- what became of what

/** Bytes of a write, and what became of them. */
interface Range {
  readonly from: number;
  readonly to: number;
  readonly fate: Fate;
}

/** A file, whatever its names were. */
interface Track {
  path: string;
  /** Undefined for a file that was there before. */
  size: number | undefined;
  /** The size that the crash left. */
  end: number;
  /** What no sync has covered yet. */
  open: SimOperation[];
}

interface Lane {
  readonly kind: "names" | "file";
  readonly label: string;
  readonly operations: SimOperation[];
  readonly atoms: StoryAtom[];
  top: number;
  height: number;
}

interface Tale {
  readonly lanes: readonly Lane[];
  readonly ranges: ReadonlyMap<number, readonly Range[]>;
  /** What became of a name that an operation changed, by its number and the path. */
  readonly names: ReadonlyMap<string, Fate>;
  /** What a sync made durable, and by which sync something became so. */
  readonly covers: ReadonlyMap<number, readonly SimOperation[]>;
  readonly coveredBy: ReadonlyMap<number, number>;
  readonly left: ReadonlyMap<StoryAtom, Fate>;
}

/** Paths are as the program wrote them; a relative one begins at the root. */
function normal(path: string): string {
  const names: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return `/${names.join("/")}`;
}

const parentOf = (path: string): string => normal(`${path}/..`);
const baseOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1) || "/";
const pathsOf = ({ path, to }: SimOperation): string[] => (to === undefined ? [path] : [path, to]).map(normal);
/** An errno; other errors are lies and short writes. */
const isFailed = ({ error }: SimOperation): boolean => error !== undefined && /^E[A-Z]/.test(error);
const isLost = ({ error }: SimOperation): boolean => error === "lost" || error === "hang";
const worst = (among: readonly Fate[]): Fate =>
  among.reduce<Fate>((a, b) => (fates.indexOf(a) > fates.indexOf(b) ? a : b), "moot");

/** What became of what operation `number` made of an atom. It lives on in every later value that came through. */
function fateIn({ left, stamps }: StoryAtom, number: number): Fate {
  const at = stamps.indexOf(number);
  if (typeof left === "number") return at < left ? "kept" : "lost";
  if (at < stamps.length - 1) return "kept";
  return left === "garbage" ? "garbage" : "torn";
}

function tell({ operations, atoms, model, sectorBytes }: CrashStory): Tale {
  const killed = model === "kill";
  // A killed process loses nothing but the end of the write that was under way, and that is no operation of the story yet.
  const unsynced = new Map<number, StoryAtom[]>();
  for (const atom of killed ? [] : atoms) {
    for (const stamp of atom.stamps) entry(unsynced, stamp).push(atom);
  }
  const tracks = new Map<string, Track>();
  const trackOf = new Map<number, Track>();
  const directories = new Map<string, SimOperation[]>();
  const open = new Map<string, SimOperation[]>();
  const sizes = new Map<number, readonly [number | undefined, number | undefined]>();
  const covers = new Map<number, readonly SimOperation[]>();
  const coveredBy = new Map<number, number>();
  const follow = (path: string, size?: number): Track => {
    const track = { path, size, end: Number.POSITIVE_INFINITY, open: [] };
    tracks.set(path, track);
    return track;
  };
  // By their order alone: a story does not say when a sync was called, so one that overlapped with a write may get the credit
  // that a later one earned. What is unsynced at the crash is known from the atoms, and never gets any.
  const sync = (by: SimOperation, what: SimOperation[], isOpen: (each: SimOperation) => boolean): SimOperation[] => {
    if (isFailed(by) || isLost(by)) return what;
    const done = what.filter((each) => !isOpen(each));
    covers.set(by.number, done);
    for (const { number } of done) coveredBy.set(number, by.number);
    return what.filter(isOpen);
  };
  for (const each of operations) {
    const { number, operation, offset = 0, bytes = 0 } = each;
    const path = normal(each.path);
    let track = tracks.get(path);
    if (NAME_CHANGES.has(operation)) {
      if (operation === "create" && !isFailed(each)) track = follow(path, 0);
      for (const dir of new Set(pathsOf(each).map(parentOf))) {
        entry(directories, dir).push(each);
        if (!isFailed(each)) entry(open, dir).push(each);
      }
      if (operation === "rename" && !isFailed(each) && track !== undefined) {
        tracks.delete(path);
        track.path = normal(each.to ?? path);
        tracks.set(track.path, track);
      }
    } else if (operation === "sync") {
      track ??= follow(path);
      track.open = sync(each, track.open, (write) => unsynced.has(write.number));
    } else if (operation === "write" || operation === "truncate") {
      track ??= follow(path);
      const { size } = track;
      if (size !== undefined && !isFailed(each) && !isLost(each)) {
        track.size = operation === "truncate" ? offset : Math.max(size, offset + bytes);
      }
      sizes.set(number, [size, track.size]);
      if ((!isFailed(each) && !isLost(each)) || unsynced.has(number)) track.open.push(each);
    } else if (operation === "syncDir" || (track === undefined && each.error !== undefined)) {
      entry(directories, ABOUT_DIRECTORIES.has(operation) ? path : parentOf(path)).push(each);
      const isOpen = (change: SimOperation): boolean =>
        unsynced.get(change.number)?.some(({ kind, path: dir }) => kind === "name" && normal(dir) === path) === true;
      if (operation === "syncDir") open.set(path, sync(each, entry(open, path), isOpen));
    }
    if (track !== undefined) trackOf.set(number, track);
  }
  for (const { kind, stamps, left } of killed ? [] : atoms) {
    const track = trackOf.get(stamps[0] ?? 0);
    if (kind !== "size" || typeof left !== "number" || track === undefined) continue;
    const at = stamps[Math.max(0, left - 1)] ?? 0;
    track.end = sizes.get(at)?.[left === 0 ? 0 : 1] ?? track.end;
  }

  const ranges = new Map<number, readonly Range[]>();
  const names = new Map<string, Fate>();
  for (const each of operations) {
    const { number, operation, offset = 0, bytes = 0 } = each;
    const mine = unsynced.get(number) ?? [];
    let settled: Fate = coveredBy.has(number) ? "durable" : killed ? "kept" : "moot";
    if (isFailed(each)) settled = "moot";
    else if (operation === "write" && isLost(each)) settled = "lost";
    const fate = mine.length === 0 ? settled : worst(mine.map((atom) => fateIn(atom, number)));
    if (operation === "truncate") ranges.set(number, [{ from: offset, to: offset, fate }]);
    if (operation === "write") {
      const sectors = new Map(mine.filter(({ kind }) => kind === "sector").map((atom) => [Number(atom.key), atom]));
      const end = mine.length === 0 ? Number.POSITIVE_INFINITY : (trackOf.get(number)?.end ?? 0);
      ranges.set(number, rangesOf(number, offset, offset + bytes, { sectors, end, fate, sectorBytes }));
    }
    for (const path of NAME_CHANGES.has(operation) ? pathsOf(each) : []) {
      const atom = mine.find(({ kind, path: dir, key }) => kind === "name" && normal(`${dir}/${key}`) === path);
      names.set(`${number} ${path}`, atom === undefined ? settled : fateIn(atom, number));
    }
  }

  const left = new Map<StoryAtom, Fate>();
  for (const atom of atoms) {
    const { kind, key, stamps, left: choice } = atom;
    const newest = fateIn(atom, stamps.at(-1) ?? 0);
    const end = trackOf.get(stamps[0] ?? 0)?.end ?? Number.POSITIVE_INFINITY;
    if (killed) left.set(atom, choice === 0 ? "lost" : "torn");
    else if (kind === "sector" && Number(key) * sectorBytes >= end) left.set(atom, "lost");
    else left.set(atom, newest === "lost" && choice !== 0 ? "older" : newest);
  }
  const fileOf = ({ path, stamps }: StoryAtom): string =>
    (killed ? undefined : trackOf.get(stamps[0] ?? 0)?.path) ?? normal(path);
  return { lanes: lanesOf(operations, atoms, directories, trackOf, fileOf), ranges, names, covers, coveredBy, left };
}

interface WriteFacts {
  /** Its sectors that are not synced. */
  readonly sectors: ReadonlyMap<number, StoryAtom>;
  /** Where the crash left the end of the file: what came through beyond it is not there. */
  readonly end: number;
  /** When nothing is known sector by sector. */
  readonly fate: Fate;
  readonly sectorBytes: number;
}

/** A write, sector by sector, equal neighbours joined. Of equal sectors only the ends of a run are atoms and stand for all. */
function rangesOf(number: number, from: number, to: number, { sectors, end, fate, sectorBytes }: WriteFacts): Range[] {
  if (sectors.size === 0 && end >= to) return [{ from, to, fate }];
  const made: Range[] = [];
  for (let at = from; at < to; ) {
    const sector = Math.floor(at / sectorBytes);
    const atom = sectors.get(sector);
    if (atom !== undefined) fate = fateIn(atom, number);
    const until = Math.min(to, (sector + 1) * sectorBytes, at < end ? end : to);
    const shown = at >= end ? "lost" : fate;
    const last = made.at(-1);
    if (last?.fate === shown) made[made.length - 1] = { ...last, to: until };
    else made.push({ from: at, to: until, fate: shown });
    at = until;
  }
  return made.length === 0 ? [{ from, to, fate }] : made;
}

const isDrawn = (each: SimOperation): boolean => DRAWN.has(each.operation) || each.error !== undefined;

function lanesOf(
  operations: readonly SimOperation[],
  atoms: readonly StoryAtom[],
  directories: ReadonlyMap<string, readonly SimOperation[]>,
  trackOf: ReadonlyMap<number, Track>,
  fileOf: (atom: StoryAtom) => string,
): Lane[] {
  const lanes = new Map<string, Lane>();
  const lane = (kind: Lane["kind"], label: string): Lane => {
    const found = lanes.get(`${kind} ${label}`) ?? { kind, label, operations: [], atoms: [], top: 0, height: 0 };
    lanes.set(`${kind} ${label}`, found);
    return found;
  };
  // The way down to the directory of a log is made once and says little: it shares a lane.
  const isAbove = (path: string, all: readonly SimOperation[]): boolean =>
    all.every(({ operation }) => operation === "mkdir" || operation === "syncDir") &&
    !atoms.some(({ kind, path: dir }) => kind === "name" && normal(dir) === path);
  const above = [...directories].filter(([path, all]) => isAbove(path, all)).map(([path]) => path);
  for (const [path, all] of directories) {
    lane("names", above.length > 1 && above.includes(path) ? "other directories" : path).operations.push(...all);
  }
  for (const atom of atoms) if (atom.kind === "name") lane("names", normal(atom.path)).atoms.push(atom);
  for (const { operations: all } of lanes.values()) all.sort((a, b) => a.number - b.number);
  for (const each of operations) {
    const track = trackOf.get(each.number);
    if (track !== undefined && isDrawn(each)) lane("file", track.path).operations.push(each);
  }
  for (const atom of atoms) if (atom.kind !== "name") lane("file", fileOf(atom)).atoms.push(atom);
  const all = [...lanes.values()];
  const settled = all.filter((each) => each.kind === "file" && each.atoms.length === 0);
  const folded = new Set(settled.slice(0, Math.max(0, all.length - MOST_LANES)));
  if (folded.size < 2) return all;
  const rest = lane("file", `${folded.size} other files`);
  rest.operations.push(...[...folded].flatMap((each) => each.operations).sort((a, b) => a.number - b.number));
  return [...all.filter((each) => !folded.has(each)), rest];
}

// ---- places

/** A place in time: one change, a run of operations that change nothing, or many when there are too many. */
interface Slot {
  readonly operations: SimOperation[];
  readonly quiet: boolean;
  x: number;
  width: number;
}

function lay({ operations, events }: CrashStory): { slots: Slot[]; slotOf: Map<number, Slot>; width: number } {
  const slots: Slot[] = [];
  const told = new Set(events.map(({ operation }) => operation));
  let toFold = operations.filter(isDrawn).length;
  toFold = toFold > MOST_SLOTS ? toFold - SINGLE_SLOTS : 0;
  const share = Math.ceil(toFold / (MOST_SLOTS - SINGLE_SLOTS));
  let room = 0;
  let before = 0;
  for (const each of operations) {
    const last = slots.at(-1);
    const drawn = isDrawn(each);
    if (toFold > 0 && room > 0) last?.operations.push(each);
    else if (toFold <= 0 && !drawn && last?.quiet === true && !told.has(before)) last.operations.push(each);
    else {
      slots.push({ operations: [each], quiet: !drawn && toFold <= 0, x: 0, width: 0 });
      room = share;
    }
    before = each.number;
    if (drawn && toFold > 0) {
      toFold--;
      room--;
    }
  }
  const units = slots.reduce((sum, { quiet }) => sum + (quiet ? 0.5 : 1), 0);
  const unit = Math.min(40, Math.max(26, 1000 / Math.max(1, units)), MOST_CHART / Math.max(1, units));
  let x = 8;
  const slotOf = new Map<number, Slot>();
  for (const slot of slots) {
    slot.width = slot.quiet ? unit / 2 : unit;
    slot.x = x;
    x += slot.width;
    for (const { number } of slot.operations) slotOf.set(number, slot);
  }
  return { slots, slotOf, width: Math.max(420, x + 14) };
}

/** What the program called, from the call to what it was told. */
interface Call {
  readonly what: string;
  readonly from: number;
  to: number | undefined;
  end: "resolved" | "rejected" | "pending";
}

function callsOf({ events }: CrashStory): Call[] {
  const calls: Call[] = [];
  for (const { operation, what, kind } of events) {
    const open = calls.find((call) => call.end === "pending" && call.what === what);
    if (kind === "called") calls.push({ what, from: operation, to: undefined, end: "pending" });
    else if (open === undefined) calls.push({ what, from: operation, to: operation, end: kind });
    else Object.assign(open, { to: operation, end: kind });
  }
  return calls;
}

// ---- drawing

class Drawing {
  readonly #story: CrashStory;
  readonly #tale: Tale;
  readonly #slots: readonly Slot[];
  readonly #slotOf: ReadonlyMap<number, Slot>;
  readonly #chart: Markup[] = [];
  readonly #labels: Markup[] = [];
  readonly #column: Markup[] = [];
  readonly #width: number;
  #y = HEAD;
  /** Where the last flag of a failure ended. */
  #flagged = { x: 0, y: 0 };

  constructor(story: CrashStory) {
    this.#story = story;
    this.#tale = tell(story);
    const { slots, slotOf, width } = lay(story);
    this.#slots = slots;
    this.#slotOf = slotOf;
    this.#width = width;
  }

  draw(): Markup {
    this.#axis();
    this.#calls();
    const { lanes } = this.#tale;
    for (const lane of lanes) {
      lane.top = this.#y;
      const crowded = lanes.length > 12;
      let least = lane.atoms.length > 0 ? (crowded ? 58 : 84) : crowded ? 34 : 64;
      if (lane.kind === "names" || lane.operations.length === 0) least = 46;
      lane.height = Math.max(least, this.#left(lane));
      this.#rule(lane.top, lane.height);
      if (lane.kind === "names") this.#names(lane);
      else this.#file(lane);
      this.#y += lane.height;
    }
    if (lanes.length === 0) {
      this.#label(this.#y, "no operations", "", "nothing was asked of the disk");
      this.#y += 46;
    }
    this.#verdict();
    const svg = (look: string, width: number, what: string, inside: readonly Markup[]): Markup => {
      const wide = Math.round(width);
      const size = { width: wide, height: this.#y, viewBox: `0 0 ${wide} ${this.#y}`, style: `--w:${wide}` };
      const attributes = { class: look, ...size, role: "img", "aria-label": what };
      return tag("svg", attributes, box(0, 0, wide, this.#y, "paper"), inside);
    };
    // From right to left, so that what is scrolled to at first is the crash.
    return tag(
      "div",
      { class: "chart" },
      svg("left", COLUMN, "what the crash left", this.#column),
      svg("time", this.#width, "operations", this.#chart),
      svg("labels", LABELS, "lanes", this.#labels),
    );
  }

  #rule(top: number, height: number): void {
    this.#chart.push(line(0, top + height, this.#width, top + height, "rule"));
    this.#labels.push(line(0, top + height, LABELS, top + height, "rule"));
    this.#column.push(line(8, top + height, COLUMN, top + height, "rule"));
  }

  #label(top: number, name: string, detail: string, full: string): void {
    const text = [words(12, top + 19, "name", name), words(12, top + 35, "small", shortened(detail, 30))];
    this.#labels.push(tag("g", {}, title(full), text));
  }

  #at(number: number): number {
    const slot = this.#slotOf.get(number);
    return slot === undefined ? 0 : slot.x + slot.width / 2;
  }

  #axis(): void {
    this.#labels.push(words(12, 24, "small", "operation"));
    let free = 0;
    for (const slot of this.#slots) {
      const [first] = slot.operations as [SimOperation];
      const x = slot.x + slot.width / 2;
      if (slot.quiet) {
        const told = title(listed(slot.operations.map((each) => this.#say(each))));
        this.#chart.push(dot(x, HEAD - 6, 2, "quiet", told));
      } else {
        this.#chart.push(line(x, HEAD - 9, x, HEAD - 3, "tick"));
        if (x < free) continue;
        const text = slot.operations.length > 1 ? `${first.number}…` : String(first.number);
        this.#chart.push(words(x, HEAD - 14, "tickname", text, "middle"));
        free = x + Math.max(24, widthOf(text) + 8);
      }
    }
    this.#rule(0, HEAD);
    this.#column.push(words(22, 24, "name", `what the ${this.#story.model === "kill" ? "kill" : "crash"} left`));
  }

  #calls(): void {
    const calls = callsOf(this.#story);
    if (calls.length === 0) return;
    const top = this.#y;
    const rows: number[] = [];
    const edge = (number: number): number => {
      const slot = this.#slotOf.get(number);
      return slot === undefined ? 4 : slot.x + slot.width;
    };
    for (const { what, from, to, end } of calls) {
      const x = edge(from) + 1;
      const until = Math.max(x + 5, to === undefined ? this.#width : edge(to) - 1);
      const text = `${what}${end === "resolved" ? " ✓" : end === "rejected" ? " ✗" : " …"}`;
      const wide = widthOf(text) + 10;
      const outside = x + wide > this.#width && x > wide;
      const begin = outside ? x - wide : x;
      let row = rows.findIndex((free) => free <= begin);
      // Where there is no room for the words the bar still has to be there: its tooltip says them.
      const wordless = row < 0 && rows.length >= MOST_CALL_ROWS;
      if (row < 0) row = wordless ? rows.length - 1 : rows.push(0) - 1;
      rows[row] = Math.max(rows[row] as number, until, begin + (wordless ? 0 : wide)) + 2;
      const y = top + 6 + row * CALL;
      const said = end === "pending" ? "not answered before the crash" : `${end} after operation ${to}`;
      const told = title(`${what}\ncalled after operation ${from}, ${said}`);
      this.#chart.push(box(x, y, until - x, CALL - 3, `call ${end}`, told));
      if (wordless) continue;
      this.#chart.push(words(outside ? x - 5 : x + 5, y + 11, "calltext", text, outside ? "end" : undefined));
    }
    const height = Math.max(46, rows.length * CALL + 10);
    const count = (end: Call["end"]): number => calls.filter((call) => call.end === end).length;
    this.#label(top, "the program", "calls and answers", "what the program called, and what it was told");
    this.#column.push(words(22, top + 19, "strong", `${count("resolved")} acknowledged`));
    this.#column.push(words(22, top + 35, "small", `${count("pending")} not answered, ${count("rejected")} rejected`));
    this.#rule(top, height);
    this.#y += height;
  }

  /** An operation in words, and what became of it. */
  #say(each: SimOperation): string {
    const { number, operation, path, to, offset, bytes, at, error } = each;
    const parts = [`#${number} ${operation} ${path}${to === undefined ? "" : ` to ${to}`}`];
    if (bytes !== undefined) parts.push(`offset ${offset}, ${bytes} bytes`);
    else if (offset !== undefined) parts.push(`to ${offset} bytes`);
    if (at > 0) parts.push(`at ${Math.round(at * 1000) / 1000} ms`);
    if (error !== undefined) parts.push(isFailed(each) ? `failed with ${error}` : `a fault: ${error}`);
    const by = this.#tale.coveredBy.get(number);
    const made = this.#tale.covers.get(number);
    if (made !== undefined) parts.push(made.length === 0 ? "nothing to sync" : `made durable: ${numbers(made)}`);
    else if (by !== undefined) parts.push(`synced by #${by}`);
    const ranges = this.#tale.ranges.get(number) ?? [];
    const whole = ranges.length === 1;
    for (const { from, to: end, fate } of by === undefined ? ranges.slice(0, MOST_TOLD) : []) {
      parts.push(whole ? FATES[fate] : `\n   [${from}, ${end}) ${FATES[fate]}`);
    }
    for (const one of NAME_CHANGES.has(operation) ? pathsOf(each) : []) {
      const fate = this.#tale.names.get(`${number} ${one}`);
      if (fate !== undefined && fate !== "durable") parts.push(`\n   the name ${baseOf(one)}: ${FATES[fate]}`);
    }
    return parts.join(", ").replaceAll(", \n", "\n");
  }

  /** What is drawn of a lane, slot by slot, with its syncs and what failed around what `draw` makes of the rest. */
  #groups(lane: Lane, height: number, draw: (all: SimOperation[], x: number, width: number) => Child[]): void {
    const groups = new Map<Slot, SimOperation[]>();
    for (const each of lane.operations) {
      const slot = this.#slotOf.get(each.number);
      if (slot !== undefined) entry(groups, slot).push(each);
    }
    for (const [slot, all] of groups) {
      const x = slot.x + slot.width / 2;
      const marks = [this.#sync(lane, all, x, height), draw(all, x, slot.width), this.#fault(lane, all, x, height)];
      const told = title(listed(all.map((each) => this.#say(each))));
      this.#chart.push(tag("g", { "data-op": all.map(({ number }) => number).join(" ") }, told, marks));
    }
  }

  #sync(lane: Lane, all: readonly SimOperation[], x: number, height: number): Child[] {
    const syncs = all.filter(({ operation }) => operation === "sync" || operation === "syncDir");
    if (syncs.length === 0) return [];
    const bottom = lane.top + height - 4;
    const works = syncs.filter((each) => !isFailed(each) && !isLost(each));
    const marks = [line(x, lane.top + 4, x, bottom, works.length > 0 ? "sync" : "sync broken")];
    if (works.length > 0) marks.push(dot(x, bottom, 3, "syncfoot"));
    const covered = works.flatMap(({ number }) => this.#tale.covers.get(number) ?? []);
    if (covered.length > 0) {
      const from = smallest(covered.map(({ number }) => this.#at(number))) - 5;
      // Below all else, whatever was drawn before.
      this.#chart.unshift(box(from, lane.top + 1, x - from, height - 2, "band"));
      marks.push(path(`M${from} ${bottom - 4}V${bottom}H${x}`, "bracket"));
    }
    return marks;
  }

  #fault(lane: Lane, all: readonly SimOperation[], x: number, height: number): Child[] {
    const struck = all.filter(({ error }) => error !== undefined);
    const error = struck.at(-1)?.error;
    if (error === undefined) return [];
    const text = `${error}${struck.length > 1 ? ` ×${struck.length}` : ""}`;
    const wide = text.length * 8 + 8;
    const begin = Math.max(0, Math.min(x - wide / 2, this.#width - wide));
    const cross = path(`M${x - 6} ${lane.top + height / 2 - 2}l12 12m0 -12l-12 12`, "cross");
    // A second row for the one that has no room beside the one before.
    const y = lane.top + (begin < this.#flagged.x && this.#flagged.y === lane.top + 2 ? 18 : 2);
    this.#flagged = { x: begin + wide, y };
    return [cross, box(begin, y, wide, 15, "flag"), words(begin + wide / 2, y + 11, "flagtext", text, "middle")];
  }

  #names(lane: Lane): void {
    this.#label(lane.top, shortened(lane.label, 26), "names", `the names in ${lane.label}`);
    const y = lane.top + 8;
    let free = 0;
    this.#groups(lane, 46, (all, x, width) => {
      const changes = all.filter(({ operation }) => NAME_CHANGES.has(operation));
      const last = changes.at(-1);
      if (last === undefined) return [];
      const paths = pathsOf(last);
      const fateOf = (each: SimOperation, side: number): Fate =>
        this.#tale.names.get(`${each.number} ${pathsOf(each)[side]}`) ?? "moot";
      // A rename has two sides: the old name that goes, and the new one that comes.
      const sides = paths.map((_, side) => worst(changes.map((each) => fateOf(each, side))));
      const size = Math.max(4, Math.min(18, width - 3));
      const wide = size / sides.length;
      const marks = sides.map((fate, side) => box(x - size / 2 + side * wide, y, wide, 16, fate));
      if (changes.length > 1) return marks;
      const sign = SIGNS[last.operation] ?? "";
      if (size >= 9) marks.push(words(x, y + 12, `sign on-${worst(sides)}`, sign, "middle"));
      const text = shortened(baseOf(paths.at(-1) as string), 12);
      const half = widthOf(text) / 2;
      if (x - half <= free || x + half > this.#width) return marks;
      free = x + half + 4;
      return [...marks, words(x, y + 28, "tickname", text, "middle")];
    });
  }

  #file(lane: Lane): void {
    const { ranges } = this.#tale;
    const { sectorBytes } = this.#story;
    const slim = lane.height < 40;
    const parent = lane.label.startsWith("/") ? parentOf(lane.label) : "";
    this.#label(lane.top, shortened(baseOf(lane.label), 26), slim ? "" : parent, lane.label);
    const ends = lane.operations.map(({ offset = 0, bytes = 0 }) => offset + bytes);
    const extent = largest([sectorBytes, ...ends, ...lane.atoms.map(({ key }) => (Number(key) + 1) * sectorBytes)]);
    const floor = lane.top + lane.height - 10;
    const up = (lane.height - 28) / extent;
    const [first] = lane.operations;
    const last = lane.operations.at(-1);
    const from = first?.operation === "create" ? this.#at(first.number) : 0;
    const until = last?.operation === "unlink" ? this.#at(last.number) : this.#width;
    this.#chart.push(line(from, floor, until, floor, "life"));
    this.#groups(lane, lane.height, (all, x, width) => {
      const wide = Math.max(2.5, Math.min(16, width - 4));
      const writes = all.flatMap(({ number, operation }) => (operation === "write" ? (ranges.get(number) ?? []) : []));
      const union: Range = {
        from: smallest(writes.map((each) => each.from)),
        to: largest(writes.map((each) => each.to)),
        fate: worst(writes.map(({ fate }) => fate)),
      };
      const shown = all.length > 1 && writes.length > 0 ? [union] : writes;
      let top = floor;
      const marks = shown.map(({ from: low, to: high, fate }) => {
        // What is too small to be seen is drawn larger, one part upon the other.
        const tall = Math.max(6, (high - low) * up);
        top = Math.max(lane.top + 8, Math.min(top, floor - low * up) - tall);
        return box(x - wide / 2, top, wide, tall, fate);
      });
      for (const each of all) {
        const { number, operation, path: name, offset = 0 } = each;
        const y = floor - offset * up;
        if (operation === "truncate")
          marks.push(path(`M${x - 6} ${y - 9}h12l-6 9z`, ranges.get(number)?.[0]?.fate ?? ""));
        if (isFailed(each)) continue;
        if (operation === "create") marks.push(dot(x, floor, 3.5, "born"));
        if (operation === "unlink") marks.push(path(`M${x - 4} ${floor - 4}l8 8m0 -8l-8 8`, "gone"));
        if (operation === "rename") marks.push(path(`M${x - 4} ${floor - 5}l5 5l-5 5`, "gone"));
        if (operation !== "rename" || slim || width < 18) continue;
        marks.push(words(x - 4, floor - 8, "tickname", `was ${shortened(baseOf(name), 14)}`));
      }
      return marks;
    });
  }

  // ---- behind the crash

  /** What is left of a lane. Gives the height it took. */
  #left(lane: Lane): number {
    const { atoms, top } = lane;
    if (atoms.length === 0) {
      const gone = lane.label.startsWith("/") && lane.operations.at(-1)?.operation === "unlink";
      this.#column.push(words(22, top + 19, "small", gone ? "removed; nothing unsynced" : "nothing unsynced"));
      return 0;
    }
    this.#column.push(words(22, top + 17, "strong", this.#summary(atoms)));
    return lane.kind === "names" ? this.#namesLeft(lane) : this.#cellsLeft(lane);
  }

  #atom(some: readonly StoryAtom[], ...marks: Child[]): void {
    this.#column.push(tag("g", { class: "atom" }, title(listed(some.map((atom) => this.#sayAtom(atom)))), marks));
  }

  #fateLeft(some: readonly StoryAtom[]): Fate {
    return worst(some.map((atom) => this.#tale.left.get(atom) ?? "lost"));
  }

  #cellsLeft({ atoms, top }: Lane): number {
    const order = ({ kind, key }: StoryAtom): number => (kind === "size" ? -1 : Number(key));
    const sorted = [...atoms].sort((a, b) => order(a) - order(b));
    const share = Math.ceil(sorted.length / MOST_CELLS);
    let x = 22;
    let y = top + 25;
    for (let i = 0; i < sorted.length; i += share) {
      const some = sorted.slice(i, i + share);
      const isSize = share === 1 && some[0]?.kind === "size";
      if (x + CELL > COLUMN - 12) {
        x = 22;
        y += CELL + 1;
      }
      const text = isSize ? words(x + CELL + 1, y + 9, "small", "size") : undefined;
      this.#atom(some, box(x, y, CELL - 2, CELL - 2, this.#fateLeft(some)), text);
      x += isSize ? 46 : CELL + 1;
    }
    if (share > 1)
      this.#column.push(words(22, y + CELL + 10, "small", `one cell stands for ${share}, and shows the worst`));
    return y + CELL + (share > 1 ? 22 : 8) - top;
  }

  #namesLeft({ atoms, top }: Lane): number {
    const shown = atoms.slice(0, atoms.length > MOST_NAMES ? MOST_NAMES - 1 : MOST_NAMES);
    const hidden = atoms.slice(shown.length);
    let y = top + 24;
    for (const atom of shown) {
      const fate = this.#fateLeft([atom]);
      const text = `${shortened(String(atom.key), 24)} ${this.#changeOf(atom)}: ${SHORT[fate]}`;
      this.#atom([atom], box(22, y, CELL - 2, CELL - 2, fate), words(39, y + 9, "small", text));
      y += CELL + 2;
    }
    if (hidden.length === 0) return y + 6 - top;
    this.#atom(hidden, words(39, y + 9, "small", `and ${this.#summary(hidden)}`));
    return y + CELL + 8 - top;
  }

  /** What the last operation on a name did to it. */
  #changeOf({ stamps, path, key }: StoryAtom): string {
    const each = this.#slotOf.get(stamps.at(-1) ?? 0)?.operations.find(({ number }) => number === stamps.at(-1));
    if (each === undefined) return "changed";
    const isNew = normal(`${path}/${key}`) === pathsOf(each).at(-1);
    return `${isNew && each.operation !== "unlink" && each.operation !== "rmdir" ? "made" : "removed"} by #${each.number}`;
  }

  #summary(atoms: readonly StoryAtom[]): string {
    if (this.#story.model === "kill") {
      return `a write under way: ${counted(Number(atoms[0]?.left) || 0, "byte")} got through`;
    }
    const parts = fates.map(
      (fate) => [fate, atoms.filter((atom) => this.#tale.left.get(atom) === fate).length] as const,
    );
    const told = parts.filter(([, count]) => count > 0).map(([fate, count]) => `${count} ${SHORT[fate]}`);
    return `${atoms.length} unsynced: ${told.join(", ")}`;
  }

  #sayAtom(atom: StoryAtom): string {
    const { kind, path, key, stamps, left } = atom;
    const { sectorBytes, model } = this.#story;
    if (model === "kill") return `${path}: the write under way, ${left} bytes got through`;
    const from = Number(key) * sectorBytes;
    const what = {
      name: `name ${normal(`${path}/${key}`)}`,
      size: `size of ${path}`,
      sector: `${path} sector ${key}, [${from}, ${from + sectorBytes})`,
    }[kind];
    const fate = this.#tale.left.get(atom) ?? "lost";
    let how: string = typeof left === "string" ? left : FATES[fate];
    if (fate === "older") how = `as #${stamps[Number(left) - 1]} made it`;
    if (fate === "lost" && left !== 0) how = "lost: it lies beyond the size that was left";
    return `${what}\nmade by ${numbers(stamps)}: ${how}`;
  }

  #verdict(): void {
    const { verdict, failed } = this.#story;
    const lines = wrapped(verdict, 46).slice(0, 4);
    const height = 44 + lines.length * 15;
    const badge = box(22, this.#y + 10, COLUMN - 34, height - 16, "badge");
    const text = lines.map((each, at) => words(34, this.#y + 46 + at * 15, "", each));
    const outcome = words(34, this.#y + 29, "strong", outcomeOf(failed));
    this.#column.push(tag("g", { class: failed ? "failed" : "ok" }, title(verdict), badge, outcome, text));
    this.#y += height;
    let d = "M5 0";
    for (let y = 6; y < this.#y + 12; y += 12) d += `L${y % 24 === 6 ? 8 : 2} ${y}`;
    this.#column.push(path(d, "crash", title("the crash")));
  }
}

const outcomeOf = (failed: boolean): string => (failed ? "✗ recovery failed" : "✓ recovery is ok");

/** Lines of at most about `most` characters. */
function wrapped(text: string, most: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < most) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(shortened(word, most));
  }
  return lines;
}

const numbers = (all: readonly (SimOperation | number)[]): string =>
  listed(
    all.map((each) => `#${typeof each === "number" ? each : each.number}`),
    ", ",
  );

/** So many and no more: a tooltip has to fit on a screen. */
function listed(all: readonly string[], between = "\n"): string {
  const rest = all.length - MOST_TOLD;
  return rest > 1 ? `${all.slice(0, MOST_TOLD).join(between)}${between}and ${rest} more` : all.join(between);
}

// ---- the page

/** The page: one HTML document, self-contained. */
export function drawTimeline(story: CrashStory): string {
  const { operations, atoms, model, sectorBytes, verdict, failed } = story;
  const last = operations.at(-1)?.number ?? 0;
  const heading = `${model === "kill" ? "A kill" : "A crash"} after operation ${last}`;
  const facts = `model ${model}, sectors of ${sectorBytes} bytes, ${counted(operations.length, "operation")}, ${counted(atoms.length, "thing")} unsynced`;
  const page = [
    tag("header", {}, tag("h1", {}, heading), tag("p", { class: "facts" }, facts)),
    tag("pre", { class: "replay" }, story.line),
    tag("p", { class: `verdict ${failed ? "failed" : "ok"}` }, tag("strong", {}, outcomeOf(failed)), ` ${verdict}`),
    legend(),
    new Drawing(story).draw(),
    ...innerCrashes(story.within),
  ];
  const meta =
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">';
  const head = `${meta}${render(tag("title", {}, `${heading}: ${story.line}`))}<style>${STYLE}</style>`;
  return `<!doctype html>\n<html lang="en"><head>${head}</head><body>${render(page)}</body></html>\n`;
}

/** The crashes within the recovery, one picture each. */
function innerCrashes(story: CrashStory | undefined): Markup[] {
  if (story === undefined) return [];
  const last = story.operations.at(-1)?.number ?? 0;
  const heading = `${story.model === "kill" ? "A kill" : "A crash"} within the recovery of that, after its operation ${last}`;
  return [tag("h2", {}, heading), new Drawing(story).draw(), ...innerCrashes(story.within)];
}

function legend(): Markup {
  const item = (what: string, ...marks: Markup[]): Markup =>
    tag("span", {}, tag("svg", { width: 26, height: 18, "aria-hidden": "true" }, marks), what);
  const swatches = (["durable", "kept", "older", "lost", "torn", "garbage", "moot"] as const).map((fate) =>
    item(FATES[fate], box(4, 2, 18, 14, fate)),
  );
  const foot = dot(18, 15, 3, "syncfoot");
  const bracket = path("M3 11V15H18", "bracket");
  const cross = path("M7 3l12 12m0 -12l-12 12", "cross");
  return tag("div", { class: "legend" }, PATTERNS, swatches, [
    item("a sync, and what it covered", box(3, 1, 15, 16, "band"), bracket, line(18, 1, 18, 15, "sync"), foot),
    item("failed, or a fault", cross),
    item("a name made, moved, removed", box(5, 1, 16, 16, "durable"), words(13, 13, "sign on-durable", "→", "middle")),
    item("truncated to here", path("M7 4h12l-6 9z", "durable")),
    item("acknowledged", box(1, 3, 24, 12, "call resolved")),
    item("not answered", box(1, 3, 24, 12, "call pending")),
    item("rejected", box(1, 3, 24, 12, "call rejected")),
    item("reads and opens", dot(13, 9, 2, "quiet")),
  ]);
}

/** Shape as well as hue: filled, half-tone, half, hollow, striped, dotted. They tell on paper and to the colour-blind. */
const PATTERNS = new Markup(
  `<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>
<pattern id="stripes" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="paper" width="5" height="5"/><rect class="stripe" width="2.4" height="5"/></pattern>
<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse"><rect class="paper" width="5" height="5"/><circle class="dot" cx="1.4" cy="1.4" r="1.3"/><circle class="dot" cx="3.9" cy="3.9" r="1.3"/></pattern>
<pattern id="half" width="1" height="1" viewBox="0 0 10 10" preserveAspectRatio="none"><rect class="paper" width="10" height="10"/><path class="halfway" d="M0 0V10H10z"/></pattern>
</defs></svg>`,
);

const DARK =
  "--ink:#e8eaed;--paper:#14171c;--muted:#9aa3ad;--rule:#2c323a;--blue:#5ab0f0;--green:#2fc795;--pale:#14493b;--red:#ff8a4c;--amber:#ffc04d;--purple:#e58fc4;--grey:#3a424c;--band:#5ab0f022;--good:#123f31;--bad:#5a2410";
const LIGHT =
  "--ink:#1b1f24;--paper:#fff;--muted:#5c6670;--rule:#e1e5ea;--blue:#0068b0;--green:#00875f;--pale:#bfe8d9;--red:#c64a00;--amber:#c98200;--purple:#a8417f;--grey:#dfe3e8;--band:#0068b014;--good:#d9f2e8;--bad:#ffe0cf";

const STYLE = `:root{color-scheme:light dark;${LIGHT}}
@media screen and (prefers-color-scheme:dark){:root{${DARK}}}
body{margin:0;padding:24px;background:var(--paper);color:var(--ink);font:14px/1.45 system-ui,sans-serif;print-color-adjust:exact;-webkit-print-color-adjust:exact}
header{display:flex;gap:16px;align-items:baseline;flex-wrap:wrap}h1{font-size:22px;margin:0}h2{font-size:18px;margin:24px 0 8px}
.facts{margin:0;color:var(--muted)}
.replay{margin:12px 0;padding:10px 14px;border:1px solid var(--rule);border-left:4px solid var(--ink);border-radius:4px;font:13px ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;user-select:all}
p.verdict{margin:12px 0;padding:8px 14px;border-radius:4px;white-space:pre-wrap;overflow-wrap:anywhere}
p.ok{background:var(--good)}p.failed{background:var(--bad)}
.legend{display:flex;flex-wrap:wrap;gap:6px 18px;margin:14px 0;color:var(--muted);font-size:12.5px}
.legend span{display:inline-flex;gap:6px;align-items:center}
.chart{display:flex;direction:rtl;width:fit-content;max-width:100%;overflow-x:auto;border:1px solid var(--rule);border-radius:6px}
.chart svg{direction:ltr;flex:none;display:block;font:11px system-ui,sans-serif}
.left{position:sticky;right:0;z-index:1}.labels{position:sticky;left:0;z-index:1}text{fill:var(--ink)}
.paper{fill:var(--paper)}.name{font-size:13px;font-weight:600}.strong{font-size:11.5px;font-weight:600}
.small,.tickname{fill:var(--muted)}.tickname{font-size:10px}.tick{stroke:var(--muted)}
.quiet{fill:var(--muted);opacity:.7}.rule{stroke:var(--rule)}.life{stroke:var(--muted);stroke-width:1.5}
.durable{fill:var(--blue);stroke:var(--blue)}.kept{fill:var(--pale);stroke:var(--green);stroke-width:1.5}
.older{fill:url(#half);stroke:var(--green);stroke-width:1.5}
.lost{fill:var(--paper);stroke:var(--red);stroke-width:1.5;stroke-dasharray:3 2}
.torn{fill:url(#stripes);stroke:var(--amber);stroke-width:1.5}
.garbage{fill:url(#dots);stroke:var(--purple);stroke-width:1.5}
.moot{fill:var(--grey);stroke:none}.stripe{fill:var(--amber)}.dot{fill:var(--purple)}
.halfway{fill:var(--green)}.sign{font-size:10px;font-weight:700;pointer-events:none}.on-durable{fill:var(--paper)}
.sync{stroke:var(--blue);stroke-width:2}.syncfoot{fill:var(--blue)}.bracket{fill:none;stroke:var(--blue)}
.band{fill:var(--band)}.broken{stroke:var(--red);stroke-dasharray:4 3}
.cross{fill:none;stroke:var(--red);stroke-width:2.5}.flag{fill:var(--red)}.flagtext{fill:var(--paper);font-weight:700}
.born{fill:var(--paper);stroke:var(--muted);stroke-width:1.5}.gone{fill:none;stroke:var(--ink);stroke-width:1.5}
.call{stroke:var(--green);fill:var(--pale)}.pending{stroke:var(--muted);fill:none;stroke-dasharray:4 3}
.rejected{stroke:var(--red);fill:var(--bad);stroke-width:2}.calltext{font-size:10.5px;pointer-events:none}
.crash{fill:none;stroke:var(--ink);stroke-width:4;stroke-linejoin:round}
.ok .badge{fill:var(--good);stroke:var(--green)}.failed .badge{fill:var(--bad);stroke:var(--red);stroke-width:2}
@media (max-width:900px){.left{position:static}}
@page{size:landscape;margin:10mm}
@media print{body{padding:0}.chart{overflow:visible;width:100%;border:0}.chart svg{position:static;flex:var(--w) 1 0;width:0;min-width:0;height:auto}}`;
