// One child of `stablelog replay`, seen from its parent: starts it, listens to it, lets it go as far as the plan says, and
// kills it there. Used by replay.ts; the other end is replay-worker.ts.

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { nowMs } from "../base/clock.js";
import type { Kill } from "./replay-kills.js";
import type { Grant, Report, Task, WorkerStats } from "./replay-worker.js";

const workerPath = fileURLToPath(new URL("./replay-worker.js", import.meta.url));

/** One run of the child, as far as it came. */
export interface Run {
  /** Undefined: it ended by itself, with everything replayed. */
  readonly killed: "opening" | "saving" | undefined;
  readonly stats: WorkerStats | undefined;
  /** What was found wrong; the replay is over then. */
  readonly problem: string | undefined;
  /** Acknowledged batches that were not there any more. */
  readonly lost: number;
}

export interface Listener {
  opened(position: number, ms: number, recovered: string): void;
  /** The child may submit batches up to `until` from now on. */
  granted(until: number): void;
  /** `elapsedMs` is the time since the acknowledgement before, or since the child was let go. */
  acked(position: number, elapsedMs: number, syncMs: readonly number[]): void;
  usualOpenMs(): number;
}

/** Where a child is killed: in its opening, this share of the usual time after it began; while it saves; or nowhere. */
export interface Fate {
  readonly opening?: number;
  readonly saving?: Kill;
}

/** One child process from its start to its end, killed where its plan says so. */
export class Child {
  readonly ended: Promise<Run>;
  readonly #process: ChildProcess;
  readonly #fate: Fate;
  readonly #listener: Listener;
  #timer: NodeJS.Timeout | undefined;
  #due = false;
  #killed = false;
  #position = 0;
  #since = 0;
  #stats: WorkerStats | undefined;
  #done = false;
  #problem: string | undefined;
  #lost = 0;

  constructor(task: Task, fate: Fate, listener: Listener) {
    this.#fate = fate;
    this.#listener = listener;
    this.#process = fork(workerPath, [], { serialization: "advanced", stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.ended = this.#watch();
    this.#send(task);
  }

  #watch(): Promise<Run> {
    const child = this.#process;
    return new Promise((resolve, reject) => {
      child.on("message", (report: Report) => this.#hear(report));
      child.on("error", reject);
      // What the child had said before it died has been heard when the channel ends, which may be after the process did.
      const silent = new Promise<void>((disconnected) => child.once("disconnect", disconnected));
      child.once("exit", (code, signal) => {
        clearTimeout(this.#timer);
        silent.then(() => resolve(this.#ending(signal === null ? `exit code ${code}` : signal)), reject);
      });
    });
  }

  #ending(how: string): Run {
    const expected = this.#killed || this.#done || this.#problem !== undefined;
    const problem = expected ? this.#problem : `the child ended with ${how} at batch ${this.#position}`;
    const killed = !this.#killed ? undefined : this.#fate.saving === undefined ? "opening" : "saving";
    return { killed, stats: this.#stats, problem, lost: this.#lost };
  }

  #hear(report: Report): void {
    switch (report.kind) {
      case "opening":
        if (this.#fate.opening !== undefined) this.#killAfter(this.#fate.opening * this.#listener.usualOpenMs());
        break;
      case "opened": {
        const { verdict, carriedEntries } = report.recovery;
        this.#position = report.position;
        this.#listener.opened(
          report.position,
          report.ms,
          carriedEntries > 0 ? `${verdict}, ${carriedEntries} carried` : verdict,
        );
        this.#letGo();
        break;
      }
      case "acked": {
        const now = nowMs();
        this.#position = report.position;
        this.#stats = report.stats;
        this.#listener.acked(report.position, now - this.#since, report.syncMs);
        this.#since = now;
        this.#judge();
        break;
      }
      case "done":
        this.#done = true;
        break;
      case "lost":
        this.#problem = report.message;
        this.#lost = report.lost;
        break;
      case "failed": {
        const { code, message, file, offset } = report.error;
        this.#problem = `the child failed at batch ${this.#position}: ${code}: ${message}`;
        if (file !== undefined) this.#problem += ` (file ${file}, offset ${offset})`;
        break;
      }
    }
  }

  /** Lets an opened child save; one that is to be killed while opening waits for the kill. */
  #letGo(): void {
    const { opening, saving } = this.#fate;
    if (opening !== undefined) return;
    const until = saving?.until ?? Number.POSITIVE_INFINITY;
    this.#listener.granted(until);
    this.#since = nowMs();
    this.#send({ until });
    this.#judge();
  }

  #judge(): void {
    const { saving } = this.#fate;
    if (saving !== undefined && this.#position >= saving.at) this.#killAfter(saving.delayMs);
  }

  #killAfter(ms: number): void {
    if (this.#due) return;
    this.#due = true;
    const kill = (): void => {
      this.#killed = this.#process.kill("SIGKILL");
    };
    if (ms === 0) kill();
    else this.#timer = setTimeout(kill, ms);
  }

  #send(message: Task | Grant): void {
    // A child that is gone by now is reported by its end.
    this.#process.send(message, () => {});
  }
}
