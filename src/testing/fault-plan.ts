// Faults on demand: which operation of a simulated disk goes wrong, when, and how. A Fault is one rule with a count of what
// it met; sim-disk.ts asks the plan before each operation. Knows operations by name and path only.

/** What a disk is asked for. `create` is an open that makes the file. */
export const diskOperations = [
  "open",
  "create",
  "list",
  "stat",
  "mkdir",
  "rmdir",
  "rename",
  "unlink",
  "syncDir",
  "lock",
  "unlock",
  "read",
  "write",
  "sync",
  "truncate",
  "close",
] as const;
export type DiskOperation = (typeof diskOperations)[number];

/** Which operations a fault strikes, and what it does to them. */
export interface FaultRule {
  /** The operation, or several; default: any. An unlock is told of in the trace of who watches, and cannot fail. */
  readonly on?: DiskOperation | readonly DiskOperation[] | undefined;
  /** Only where the path matches; for a rename either of the two. */
  readonly path?: RegExp | string | undefined;
  /** The first one that it strikes, counted among those that match; default 1. */
  readonly nth?: number | undefined;
  /** How many it strikes; default 1, Number.POSITIVE_INFINITY for good. */
  readonly times?: number | undefined;
  /** An errno name ("EIO", "ENOSPC", ...): the operation fails with it. */
  readonly error?: string | undefined;
  /** With `error` on a write: bytes that get through before; default 0. Without: a short write, seen by disk.fs alone. */
  readonly bytes?: number | undefined;
  /**
   * With `error` on a sync: what becomes of the pages. `clean` (the default, as ext4 and XFS do): they read as before, no
   * later sync writes them. `revert` (as Btrfs): they read as they durably were. `dirty`: the next sync tries again.
   */
  readonly pages?: "clean" | "revert" | "dirty" | undefined;
  /**
   * Without `error`: a lie. `lost`, of a write, a sync or a syncDir: it reports success and has done nothing. `misdirected`, of
   * a write: it goes `distance` bytes away. `flipped`, of a read: it returns one bit wrong. `hang`, of a sync that does not
   * block or of a syncDir: it does not return until release(). Of other operations a lie changes nothing.
   */
  readonly lie?: "lost" | "misdirected" | "flipped" | "hang" | undefined;
  /** For `misdirected`; default one sector on. */
  readonly distance?: number | undefined;
}

/** A rule that is in force. */
export class Fault {
  readonly rule: FaultRule;
  /** Operations that matched, and those of them that it struck. */
  seen = 0;
  struck = 0;
  readonly #waiting: (() => void)[] = [];
  #released = false;

  /** @throws RangeError for a rule that could strike nothing, or would do nothing where it strikes. */
  constructor(rule: FaultRule) {
    checkRule(rule);
    this.rule = rule;
  }

  /** Does it strike this operation? Counts it. */
  strikes(operation: DiskOperation, path: string, other: string | undefined): boolean {
    const { on, path: wanted, nth = 1, times = 1 } = this.rule;
    if (on !== undefined && (typeof on === "string" ? on !== operation : !on.includes(operation))) return false;
    if (wanted !== undefined && !matches(wanted, path) && !(other !== undefined && matches(wanted, other)))
      return false;
    this.seen++;
    if (this.seen < nth || this.struck >= times) return false;
    this.struck++;
    return true;
  }

  /** Lets what hangs go on. */
  release(): void {
    this.#released = true;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Resolves when release() was called. */
  released(): Promise<void> {
    if (this.#released) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}

const LIES: Readonly<Record<NonNullable<FaultRule["lie"]>, readonly DiskOperation[]>> = {
  lost: ["write", "sync", "syncDir"],
  misdirected: ["write"],
  flipped: ["read"],
  hang: ["sync", "syncDir"],
};

function checkRule({ on, nth = 1, times = 1, error, bytes, pages, lie, distance }: FaultRule): void {
  const refuse = (what: string): never => {
    throw new RangeError(`a fault's ${what}`);
  };
  const operations = on === undefined ? diskOperations : typeof on === "string" ? [on] : on;
  for (const operation of operations) {
    if (!diskOperations.includes(operation)) refuse(`on must name operations of a disk, got ${String(operation)}`);
  }
  if (!Number.isSafeInteger(nth) || nth < 1) refuse(`nth must be an integer from 1 on, got ${nth}`);
  if (!(times >= 1)) refuse(`times must be 1 or more, got ${times}`);
  if (error === undefined && bytes === undefined && lie === undefined) refuse("effect is missing: error, bytes or lie");
  if (error !== undefined && !/^E[A-Z0-9]+$/.test(error))
    refuse(`error must be an errno name such as EIO, got ${error}`);
  if (bytes !== undefined && !(bytes >= 0)) refuse(`bytes must be 0 or more, got ${bytes}`);
  if (distance !== undefined && !Number.isSafeInteger(distance)) refuse(`distance must be an integer, got ${distance}`);
  if (pages !== undefined && !["clean", "revert", "dirty"].includes(pages)) {
    refuse(`pages must be clean, revert or dirty, got ${String(pages)}`);
  }
  if (lie === undefined) return;
  const told = LIES[lie] as readonly DiskOperation[] | undefined;
  if (told === undefined) refuse(`lie must be one of ${Object.keys(LIES).join(", ")}, got ${String(lie)}`);
  else if (on !== undefined && !operations.some((each) => told.includes(each))) {
    refuse(`lie ${lie} is one of ${told.join(" or ")}, not of ${operations.join(", ")}`);
  }
}

function matches(wanted: RegExp | string, path: string): boolean {
  return typeof wanted === "string" ? path === wanted || path.endsWith(`/${wanted}`) : wanted.test(path);
}
