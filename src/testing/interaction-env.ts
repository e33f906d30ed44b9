// InteractionEnv: the cluster that etcd-raft's interaction scripts drive, as in its rafttest package: nodes with storages,
// messages in a queue, every step by a directive, and what happens as text. Scripts are of datadriven.ts. Used by
// raft-scripts.ts, by script-disks.ts with storages on simulated disks, and by whoever has a storage of their own.
//
// A Ready is written as an owner writes it, with one save of HardState, entries and snapshot together, and a log is compacted
// behind a snapshot of what was applied. So what a script leaves in a storage is enough to start the node again.
//
// What raft logs is left out on both sides of a comparison (withoutLogs()): our words are our own.

import { assert } from "../base/assert.js";
import { StableLogError } from "../base/errors.js";
import { describeEntries, describeMessage, describeReady } from "../raft/describe.js";
import type { RaftConfig } from "../raft/raft.js";
import { RawNode } from "../raft/rawnode.js";
import type { SaveBatch, Storage, WritableStorage } from "../raft/storage.js";
import {
  asConfChangeV2,
  type ConfChange,
  ConfChangeTransition,
  type ConfChangeV2,
  confChangesFromString,
  decodeConfChange,
} from "../raftpb/conf-change.js";
import { isLocalThread, type Message, MessageType, messageTypeOf, newMessage } from "../raftpb/message.js";
import { type Entry, EntryType, emptyConfState, type Snapshot } from "../raftpb/types.js";
import { MemoryStorage } from "../storage/memory-storage.js";
import type { Directive, ScriptArgument } from "./datadriven.js";
import { Random } from "./random.js";

/**
 * What a storage needs to have for a script to run on it; any WritableStorage does. Each call is awaited before the next one,
 * and before anything that rests on it happens.
 */
export type InteractionStorage = Pick<WritableStorage, keyof Storage | "save" | "createSnapshot" | "compact">;

/** One node of an InteractionEnv. */
export interface InteractionNode {
  /** The node; scripts have handled its Readys so far. */
  readonly raw: RawNode;
  /** As the hook of InteractionOptions gave it. */
  readonly storage: InteractionStorage;
  /** Whether it has asynchronous storage writes. */
  readonly async: boolean;
  /** What its append thread has still to write: MsgStorageAppend, the oldest first. */
  readonly appendWork: Message[];
  /** What its apply thread has still to apply: MsgStorageApply, the oldest first. */
  readonly applyWork: Message[];
  /** Snapshots of what was applied, the newest last. */
  readonly history: Snapshot[];
}

const levels = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"] as const;
const NONE_LEVEL = levels.length - 1;
const LOG_LINE = /^\s*(?:DEBUG|INFO|WARN|ERROR|FATAL) /;

/** An output without the lines of raft's logger ("INFO ..."); "ok" where nothing else is left. */
export function withoutLogs(output: string): string {
  const kept = output.split("\n").filter((line) => !LOG_LINE.test(line));
  return kept.join("\n").trim() === "" ? "ok\n" : kept.join("\n");
}

/** What an InteractionEnv may be given. */
export interface InteractionOptions {
  /** Makes the storage of node `id`, empty, when a script adds that node; a MemoryStorage if not given. */
  readonly storage?: ((id: bigint) => InteractionStorage | Promise<InteractionStorage>) | undefined;
}

/**
 * A cluster for one script: feed it the script's directives one by one, in order. It is not safe for calls at the same time.
 *
 *     const env = new InteractionEnv();
 *     const failures = await runScript(text, (directive) => env.handle(directive), withoutLogs);
 */
export class InteractionEnv {
  /** The nodes that were added so far; the one with ID 1 stands at 0, and so on. */
  readonly nodes: InteractionNode[] = [];
  #messages: Message[] = [];
  #output = "";
  #level = 0;
  readonly #options: InteractionOptions;
  readonly #random = new Random(1);

  constructor(options: InteractionOptions = {}) {
    this.#options = options;
  }

  /**
   * Runs one directive and returns its output; what the cluster or the storage refuses with a StableLogError is output.
   * @throws (rejects) whatever else goes wrong: that is no answer, but a bug, or a script that names a node that is not there.
   */
  async handle(directive: Directive): Promise<string> {
    this.#output = "";
    try {
      await this.#run(directive);
    } catch (error) {
      // A StableLogError is an answer; anything else but the errors of this file is a bug.
      if (!(error instanceof StableLogError) && !(error instanceof ScriptAnswer)) throw error;
      if (this.#level === NONE_LEVEL) return error.message;
      this.#output += error.message;
    }
    return this.#output === "" ? "ok" : this.#output;
  }

  async #run(directive: Directive): Promise<void> {
    const { command, args } = directive;
    const ids = args.filter(({ values }) => values.length === 0).map(({ key }) => key);
    const node = (position = 0): InteractionNode => this.#node(ids[position]);
    switch (command) {
      case "_breakpoint":
        return;
      case "add-nodes":
        return this.#addNodes(Number(ids[0]), args);
      case "campaign":
        return node().raw.campaign();
      case "compact":
        await compact(node(), Number(ids[1]));
        return this.#raftLog(node());
      case "deliver-msgs":
        return this.#deliverDirective(args);
      case "process-ready":
        return this.#each(ids, "handling Ready", (each) => this.#processReady(each));
      case "process-append-thread":
        return this.#each(ids, "processing append thread", (each) => this.#processAppend(each));
      case "process-apply-thread":
        return this.#each(ids, "processing apply thread", (each) => this.#processApply(each));
      case "log-level":
        return this.#setLevel(ids[0] ?? "");
      case "raft-log":
        return this.#raftLog(node());
      case "raft-state":
        return this.#raftState();
      case "set-randomized-election-timeout":
        node().raw.raft.randomizedElectionTimeout = Number(argumentOf(args, "timeout"));
        return;
      case "stabilize":
        return this.#stabilizeDirective(ids, args);
      case "status":
        return this.#write(node().raw.status().progress.toString());
      case "tick-election":
        for (let ticks = ELECTION_TICK; ticks > 0; ticks--) node().raw.tick();
        return;
      case "tick-heartbeat":
        for (let ticks = HEARTBEAT_TICK; ticks > 0; ticks--) node().raw.tick();
        return;
      case "transfer-leadership":
        return this.#node(argumentOf(args, "from")).raw.transferLeader(BigInt(argumentOf(args, "to") ?? "0"));
      case "forget-leader":
        return node().raw.forgetLeader();
      case "send-snapshot":
        return this.#sendSnapshot(node(), BigInt(ids[1] ?? "0"));
      case "propose":
        return node().raw.propose(new TextEncoder().encode(ids[1] ?? ""));
      case "propose-conf-change":
        return node().raw.proposeConfChange(changeOf(args, directive.input));
      case "report-unreachable":
        return node().raw.reportUnreachable(BigInt(ids[1] ?? "0"));
      default:
        throw new ScriptAnswer("unknown command");
    }
  }

  #write(text: string): void {
    if (this.#level < NONE_LEVEL) this.#output += text;
  }

  /** What `run` writes, two spaces in. */
  async #indented(run: () => void | Promise<void>): Promise<void> {
    const before = this.#output;
    this.#output = "";
    let inner: string;
    try {
      await run();
    } finally {
      inner = this.#output;
      this.#output = before;
    }
    const lines = inner.split("\n");
    if (lines.at(-1) === "") lines.pop();
    for (const line of lines) this.#write(`  ${line}\n`);
  }

  #node(id: string | undefined): InteractionNode {
    const found = this.nodes[Number(id) - 1];
    if (found === undefined) throw new Error(`there is no node ${id}`);
    return found;
  }

  async #each(
    ids: readonly string[],
    what: string,
    run: (node: InteractionNode) => void | Promise<void>,
  ): Promise<void> {
    for (const id of ids) {
      const node = this.#node(id);
      if (ids.length === 1) {
        await run(node);
      } else {
        this.#write(`> ${id} ${what}\n`);
        await this.#indented(() => run(node));
      }
    }
  }

  // ---- nodes

  async #addNodes(count: number, args: readonly ScriptArgument[]): Promise<void> {
    const list = (key: string): bigint[] =>
      args.filter((arg) => arg.key === key).flatMap(({ values }) => values.filter((each) => each !== "").map(BigInt));
    const flag = (key: string): boolean => argumentOf(args, key) === "true";
    const number = (key: string): number | undefined => {
      const value = argumentOf(args, key);
      return value === undefined ? undefined : Number(value);
    };
    const readOnly = argumentOf(args, "read-only") ?? "safe";
    if (readOnly !== "safe" && readOnly !== "lease-based") {
      throw new ScriptAnswer(`invalid read-only option ${JSON.stringify(readOnly)}`);
    }
    const index = number("index") ?? 0;
    const data = new TextEncoder().encode(argumentOf(args, "content") ?? "");
    const confState = { ...emptyConfState(), voters: list("voters"), learners: list("learners") };
    const bootstraps = index > 0 || data.length > 0 || confState.voters.length + confState.learners.length > 0;
    const seed: Snapshot = { metadata: { index, term: bootstraps ? 1 : 0, confState }, data };
    for (let i = 0; i < count; i++) {
      const id = BigInt(this.nodes.length + 1);
      const history: Snapshot[] = [seed];
      const inner = (await this.#options.storage?.(id)) ?? new MemoryStorage();
      if (bootstraps) {
        if (index <= 1) throw new ScriptAnswer("index must be specified as > 1 due to bootstrap");
        await inner.save({ snapshot: seed, mustSync: true });
        assert(inner.firstIndex() === index + 1, "the seed is not where the log begins");
      }
      const storage = withHistory(inner, history);
      const async = flag("async-storage-writes");
      const config: RaftConfig = {
        id,
        electionTick: ELECTION_TICK,
        heartbeatTick: HEARTBEAT_TICK,
        storage,
        applied: index,
        asyncStorageWrites: async,
        maxSizePerMsg: Number.POSITIVE_INFINITY,
        maxInflightMsgs: number("inflight") ?? 2 ** 31 - 1,
        maxCommittedSizePerReady: number("max-committed-size-per-ready"),
        preVote: flag("prevote"),
        checkQuorum: flag("checkquorum"),
        disableConfChangeValidation: flag("disable-conf-change-validation"),
        stepDownOnRemoval: flag("step-down-on-removal"),
        readOnlyOption: readOnly === "safe" ? "Safe" : "LeaseBased",
        random: (n) => this.#random.below(n),
      };
      this.nodes.push({ raw: new RawNode(config), storage: inner, async, appendWork: [], applyWork: [], history });
    }
  }

  async #processReady(node: InteractionNode): Promise<void> {
    const ready = node.raw.ready();
    this.#write(describeReady(ready));
    if (!node.async) {
      await save(node, ready);
      apply(node, ready.committedEntries);
    }
    for (const message of ready.messages) {
      if (!isLocalThread(message.to)) this.#messages.push(message);
      else if (message.type === MessageType.MsgStorageAppend) node.appendWork.push(message);
      else node.applyWork.push(message);
    }
    if (!node.async) node.raw.advance();
  }

  async #processAppend(node: InteractionNode): Promise<void> {
    const message = node.appendWork.shift();
    if (message === undefined) {
      this.#write("no append work to perform");
      return;
    }
    this.#processing(message);
    const { term, vote, commit, entries, snapshot, responses } = message;
    // Zeros are a HardState that has not changed, to save() as well. Responses vouch for what was written.
    await save(node, { hardState: { term, vote, commit }, entries, snapshot, mustSync: responses.length > 0 });
    this.#respond(message);
  }

  #processApply(node: InteractionNode): void {
    const message = node.applyWork.shift();
    if (message === undefined) {
      this.#write("no apply work to perform");
      return;
    }
    this.#processing(message);
    apply(node, message.entries);
    this.#respond(message);
  }

  #processing(message: Message): void {
    this.#write(`Processing:\n${describeMessage({ ...message, responses: [] })}\n`);
  }

  #respond({ responses }: Message): void {
    this.#write("Responses:\n");
    for (const response of responses) this.#write(`${describeMessage(response)}\n`);
    this.#messages.push(...responses);
  }

  // ---- messages

  #deliverDirective(args: readonly ScriptArgument[]): void {
    const name = argumentOf(args, "type");
    const type = name === undefined ? undefined : messageTypeOf(name);
    if (name !== undefined && type === undefined) throw new ScriptAnswer(`unknown message type ${name}`);
    let delivered = 0;
    for (const { key, values } of args) {
      if (values.length === 0) delivered += this.#deliver(BigInt(key), type, false);
      else if (key === "drop") for (const id of values) delivered += this.#deliver(BigInt(id), type, true);
    }
    if (delivered === 0) this.#write("no messages\n");
  }

  /** Delivers what waits for a node, or drops it; returns how many. */
  #deliver(to: bigint, type: MessageType | undefined, drop: boolean): number {
    const chosen: Message[] = [];
    const rest: Message[] = [];
    for (const message of this.#messages) {
      const local = message.from === message.to || isLocalThread(message.from) || isLocalThread(message.to);
      const taken = message.to === to && !(drop && local) && (type === undefined || message.type === type);
      (taken ? chosen : rest).push(message);
    }
    this.#messages = rest;
    for (const message of chosen) {
      this.#write(`${drop ? "dropped: " : ""}${describeMessage(message)}\n`);
      if (drop) continue;
      try {
        // Stepping may change a message, which others may still hold.
        this.#node(String(to)).raw.step({ ...message, entries: message.entries.map((entry) => ({ ...entry })) });
      } catch (error) {
        if (!(error instanceof StableLogError)) throw error;
        this.#write(`${error.message}\n`);
      }
    }
    return chosen.length;
  }

  #sendSnapshot(from: InteractionNode, to: bigint): void {
    const { id, hardState } = from.raw.basicStatus();
    const snapshot = from.history.at(-1) as Snapshot;
    const message = newMessage(MessageType.MsgSnap, { from: id, to, term: hardState.term, snapshot });
    this.#messages.push(message);
    this.#write(describeMessage(message));
  }

  // ---- until nothing happens

  async #stabilizeDirective(ids: readonly string[], args: readonly ScriptArgument[]): Promise<void> {
    const before = this.#level;
    const level = argumentOf(args, "log-level");
    if (level !== undefined) this.#setLevel(level);
    try {
      await this.#stabilize(ids.length === 0 ? this.nodes : ids.map((id) => this.#node(id)));
    } finally {
      this.#level = before;
    }
  }

  async #stabilize(nodes: readonly InteractionNode[]): Promise<void> {
    for (let done = false; !done; ) {
      done = true;
      for (const node of nodes) {
        if (!node.raw.hasReady()) continue;
        done = false;
        this.#write(`> ${node.raw.raft.id} handling Ready\n`);
        await this.#indented(() => this.#processReady(node));
      }
      for (const { raw } of nodes) {
        const { id } = raw.raft;
        if (!this.#messages.some(({ to }) => to === id)) continue;
        done = false;
        this.#write(`> ${id} receiving messages\n`);
        await this.#indented(() => void this.#deliver(id, undefined, false));
      }
      for (const node of nodes) {
        if (node.appendWork.length === 0) continue;
        done = false;
        this.#write(`> ${node.raw.raft.id} processing append thread\n`);
        while (node.appendWork.length > 0) await this.#indented(() => this.#processAppend(node));
      }
      for (const node of nodes) {
        if (node.applyWork.length === 0) continue;
        done = false;
        this.#write(`> ${node.raw.raft.id} processing apply thread\n`);
        while (node.applyWork.length > 0) await this.#indented(() => this.#processApply(node));
      }
    }
  }

  // ---- looking

  #setLevel(name: string): void {
    const level = (levels as readonly string[]).indexOf(name.toUpperCase());
    if (level < 0) throw new ScriptAnswer(`log levels must be either of [${levels.join(" ")}]`);
    this.#level = level;
  }

  #raftLog({ storage }: InteractionNode): void {
    const first = storage.firstIndex();
    const last = storage.lastIndex();
    if (last < first) this.#write(`log is empty: first index=${first}, last index=${last}`);
    else this.#write(describeEntries(storage.entries(first, last + 1)));
  }

  #raftState(): void {
    for (const { raw } of this.nodes) {
      const { id, softState, hardState, config } = raw.status();
      const voter = config.voters.has(id) ? "(Voter)" : "(Non-Voter)";
      this.#write(`${id}: ${softState.raftState} ${voter} Term:${hardState.term} Lead:${softState.lead}\n`);
    }
  }
}

const ELECTION_TICK = 3;
const HEARTBEAT_TICK = 1;

/** An error of the environment, which is a directive's output. */
class ScriptAnswer extends Error {}

function argumentOf(args: readonly ScriptArgument[], key: string): string | undefined {
  return args.find((arg) => arg.key === key)?.values[0];
}

/** The storage as raft sees it: its snapshot is that of what was applied. */
function withHistory(storage: InteractionStorage, history: readonly Snapshot[]): Storage {
  return {
    initialState: () => storage.initialState(),
    entries: (lo, hi, maxSize) => storage.entries(lo, hi, maxSize),
    term: (index) => storage.term(index),
    firstIndex: () => storage.firstIndex(),
    lastIndex: () => storage.lastIndex(),
    snapshot: () => history.at(-1) as Snapshot,
  };
}

async function save({ storage, history }: InteractionNode, batch: SaveBatch): Promise<void> {
  await storage.save(batch);
  // What was applied is from now on what the snapshot says.
  if (batch.snapshot !== undefined) history.push(batch.snapshot);
}

/** Drops entries, behind a snapshot of what was applied: a node that starts again must find one or the other. */
async function compact({ storage, history }: InteractionNode, index: number): Promise<void> {
  const { metadata, data } = history.at(-1) as Snapshot;
  if (metadata.index > storage.snapshot().metadata.index) {
    await storage.createSnapshot(metadata.index, metadata.confState, data);
  }
  await storage.compact(index);
}

/** The state machine that appends: its snapshot holds the data of all entries applied. */
function apply({ raw, history }: InteractionNode, entries: readonly Entry[]): void {
  for (const { type, data, index, term } of entries) {
    const before = history.at(-1) as Snapshot;
    let update = data;
    let { confState } = before.metadata;
    if (type !== EntryType.Normal) {
      const change = decodeConfChange(type, data);
      update = asConfChangeV2(change).context;
      confState = raw.applyConfChange(change);
    }
    const all = new Uint8Array(before.data.length + update.length);
    all.set(before.data);
    all.set(update, before.data.length);
    history.push({ metadata: { index, term, confState }, data: all });
  }
}

const transitions: Readonly<Record<string, ConfChangeTransition>> = {
  auto: ConfChangeTransition.Auto,
  implicit: ConfChangeTransition.JointImplicit,
  explicit: ConfChangeTransition.JointExplicit,
};

function changeOf(args: readonly ScriptArgument[], input: string): ConfChange | ConfChangeV2 {
  const name = argumentOf(args, "transition") ?? "auto";
  const transition = transitions[name];
  if (transition === undefined) throw new ScriptAnswer(`unknown transition ${name}`);
  let changes: ReturnType<typeof confChangesFromString>;
  try {
    changes = confChangesFromString(input);
  } catch (error) {
    throw new ScriptAnswer((error as Error).message);
  }
  const context = new Uint8Array(0);
  if (argumentOf(args, "v1") !== "true") return { transition, changes, context };
  const [change] = changes;
  if (change === undefined || changes.length > 1 || transition !== ConfChangeTransition.Auto) {
    throw new ScriptAnswer("v1 conf change can only have one operation and no transition");
  }
  return { id: 0n, ...change, context };
}
