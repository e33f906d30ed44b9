// SyncWorker: the commit thread of a FileDisk. It writes and syncs with blocking calls on a thread of its own, so that a slow
// disk holds up neither the event loop nor libuv's pool. The thread starts with the first commit, keeps the process alive
// only while a commit is pending, and sleeps in Atomics.wait between two.
//
// A commit resolves after its sync has returned. When the thread dies, commits it may have begun reject with EIO, those it
// never took run on the fallback, and so does every later one: a host that grants no thread still gets its durability.

import { Worker } from "node:worker_threads";
import { assert } from "../base/assert.js";
import { systemError } from "./system-error.js";

/** The most bytes one system call is asked to move: below the 2^31 - 1 that node takes and the kernel's own cap. */
export const MAX_TRANSFER_BYTES = 1 << 30;

/** Writes [start, end) of `source` at `position` of `fd`, and syncs. */
export type Commit = (fd: number, source: Uint8Array, start: number, end: number, position: number) => Promise<void>;

/** Stages are made in multiples of this. */
const STAGE_BYTES = 64 * 1024;
/** A larger one is let go, so that one huge commit does not stay for ever. */
const LARGEST_STAGE_BYTES = 4 * 1024 * 1024;

// Slots of the control array, shared with the thread.
const POSTED = 0; // counts the messages posted; the thread sleeps on it
const TAKEN = 1; // id of the job that was begun last; 0 before the first

// The thread's program. It is a string, and CommonJS, because a thread wants a file of its own otherwise: that file has
// another name and language when run from sources than from dist/, and is lost when an application is bundled.
const threadProgram = `
const { parentPort, receiveMessageOnPort, workerData } = require("node:worker_threads");
const fs = require("node:fs");
const control = new Int32Array(workerData);
for (;;) {
  // Read before draining: a job posted after the last look changes it, and then the wait below returns at once.
  const posted = Atomics.load(control, ${POSTED});
  for (let next = receiveMessageOnPort(parentPort); next !== undefined; next = receiveMessageOnPort(parentPort)) {
    const { id, fd, source, start, end, position } = next.message;
    Atomics.store(control, ${TAKEN}, id);
    let done = start;
    try {
      while (done < end) {
        const length = Math.min(end - done, ${MAX_TRANSFER_BYTES});
        const bytes = fs.writeSync(fd, source, done, length, position + done - start);
        if (bytes === 0) {
          throw Object.assign(new Error("EIO: no byte of " + length + " was written, write"), { code: "EIO", syscall: "write" });
        }
        done += bytes;
      }
      fs.fdatasyncSync(fd);
      parentPort.postMessage({ id });
    } catch (error) {
      const { message, code, errno, syscall } = error;
      parentPort.postMessage({ id, failure: { message, fields: { code, errno, syscall, bytesWritten: done - start } } });
    }
  }
  Atomics.wait(control, ${POSTED}, posted);
}
`;

interface Job {
  readonly id: number;
  readonly fd: number;
  readonly source: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly position: number;
}

interface Reply {
  readonly id: number;
  readonly failure?: { readonly message: string; readonly fields: object };
}

interface Pending {
  readonly job: Job;
  /** The shared copy that the job reads from, when its source was not shared. */
  readonly stage: Uint8Array | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly control: Int32Array;
  /** Jobs posted and not answered, oldest first: the thread takes and answers them in this order. */
  readonly pending: Map<number, Pending>;
  /** Set by dispose(): called when the last pending job is answered. */
  whenIdle: (() => void) | undefined;
}

export class SyncWorker {
  readonly #fallback: Commit;
  readonly #program: string;
  #thread: Thread | undefined;
  /** True once a thread could not be started or has died: no other is tried. */
  #failed = false;
  #lastId = 0;
  /** Stages that no commit stands on. */
  readonly #stages: Uint8Array[] = [];

  /** `program` stands in for the thread's own in tests. */
  constructor(fallback: Commit, program = threadProgram) {
    this.#fallback = fallback;
    this.#program = program;
  }

  /** Resolves after the sync has returned; rejects with the system's error and its `bytesWritten`. */
  commit(fd: number, source: Uint8Array, start: number, end: number, position: number): Promise<void> {
    const thread = this.#running();
    if (thread === undefined) return this.#fallback(fd, source, start, end, position);
    const stage = source.buffer instanceof SharedArrayBuffer ? undefined : this.#stage(source, start, end);
    return new Promise((resolve, reject) => {
      // Ids travel through an Int32 slot and are only ever compared for equality; 0 is kept for "none".
      this.#lastId = (this.#lastId + 1) & 0x7fffffff || 1;
      const id = this.#lastId;
      const job: Job =
        stage === undefined
          ? { id, fd, source, start, end, position }
          : { id, fd, source: stage, start: 0, end: end - start, position };
      if (thread.pending.size === 0) thread.worker.ref();
      thread.pending.set(id, { job, stage, resolve, reject });
      thread.worker.postMessage(job);
      Atomics.add(thread.control, POSTED, 1);
      Atomics.notify(thread.control, POSTED);
    });
  }

  /** A copy that the thread can read: a message would take one, too, and a fresh one each time. */
  #stage(source: Uint8Array, start: number, end: number): Uint8Array {
    const kept = this.#stages.pop();
    const stage =
      kept !== undefined && kept.length >= end - start
        ? kept
        : new Uint8Array(new SharedArrayBuffer(Math.ceil((end - start) / STAGE_BYTES) * STAGE_BYTES));
    stage.set(source.subarray(start, end));
    return stage;
  }

  /** Ends the thread once its commits are answered; a later commit starts another. */
  async dispose(): Promise<void> {
    const thread = this.#thread;
    if (thread === undefined) return;
    this.#thread = undefined;
    if (thread.pending.size > 0) {
      await new Promise<void>((resolve) => {
        thread.whenIdle = resolve;
      });
    }
    await thread.worker.terminate();
  }

  #running(): Thread | undefined {
    if (this.#thread !== undefined || this.#failed) return this.#thread;
    const control = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
    let worker: Worker;
    try {
      // No execArgv: loaders and preloads of the application have no business on this thread.
      worker = new Worker(this.#program, {
        eval: true,
        workerData: control.buffer,
        execArgv: [],
        name: "stablelog-sync",
      });
    } catch {
      this.#failed = true;
      return undefined;
    }
    const thread: Thread = { worker, control, pending: new Map(), whenIdle: undefined };
    let cause: unknown;
    worker.on("message", (reply: Reply) => this.#answer(thread, reply));
    worker.on("error", (error) => {
      cause = error;
    });
    worker.on("exit", () => this.#bury(thread, cause));
    this.#thread = thread;
    return thread;
  }

  #answer(thread: Thread, { id, failure }: Reply): void {
    const answered = thread.pending.get(id);
    assert(answered !== undefined, `an answer to commit ${id}, which is not pending`);
    thread.pending.delete(id);
    const { stage } = answered;
    if (stage !== undefined && stage.length <= LARGEST_STAGE_BYTES && this.#stages.length < 2) this.#stages.push(stage);
    if (thread.pending.size === 0) {
      thread.worker.unref();
      thread.whenIdle?.();
    }
    if (failure === undefined) answered.resolve();
    else answered.reject(Object.assign(new Error(failure.message), failure.fields));
  }

  /** Answers what a dead thread left. Node delivers its last messages before it reports the exit. */
  #bury(thread: Thread, cause: unknown): void {
    if (this.#thread === thread) {
      this.#thread = undefined;
      this.#failed = true;
    }
    const left = [...thread.pending.values()];
    thread.pending.clear();
    // Jobs are taken in order: up to the one begun last, any may have been written or not; those after it were not touched.
    const taken = Atomics.load(thread.control, TAKEN);
    const begun = left.findIndex(({ job }) => job.id === taken) + 1;
    for (const { reject } of left.slice(0, begun)) reject(died(cause));
    for (const { job, resolve, reject } of left.slice(begun)) {
      this.#fallback(job.fd, job.source, job.start, job.end, job.position).then(resolve, reject);
    }
    thread.whenIdle?.();
  }
}

function died(cause: unknown): Error {
  const error = systemError("EIO", "write", undefined, "the commit thread died with this commit begun");
  if (cause !== undefined) error.cause = cause;
  return error;
}
