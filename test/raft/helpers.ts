// Nodes and groups for the tests of the raft core: RawNodes over MemoryStorages, driven by hand. A TestNode handles its own
// Readys as an owner does; a Group carries the messages, in order, unless a test loses some.

import { StableLogError } from "../../src/base/errors.js";
import type { RaftConfig } from "../../src/raft/raft.js";
import { RawNode } from "../../src/raft/rawnode.js";
import type { ReadState } from "../../src/raft/read-only.js";
import { decodeConfChange } from "../../src/raftpb/conf-change.js";
import { type Message, MessageType, messageTypeName, newMessage } from "../../src/raftpb/message.js";
import { type ConfState, type Entry, EntryType, emptyConfState, type HardState } from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";

export const ELECTION_TICK = 10;

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (data: Uint8Array): string => new TextDecoder().decode(data);

export const entry = (index: number, term: number, text = ""): Entry => ({
  term,
  index,
  type: EntryType.Normal,
  data: bytes(text),
});

/** Entries from index 1 on, of these terms. */
export const entriesOf = (...terms: readonly number[]): Entry[] => terms.map((term, i) => entry(i + 1, term));

export interface NodeOptions extends Partial<Omit<RaftConfig, "id" | "storage">> {
  readonly voters?: readonly bigint[];
  readonly confState?: Partial<ConfState>;
  readonly entries?: readonly Entry[];
  readonly hardState?: HardState;
  readonly storage?: MemoryStorage;
}

export class TestNode {
  readonly id: bigint;
  readonly storage: MemoryStorage;
  readonly raw: RawNode;
  readonly applied: Entry[] = [];
  readonly reads: ReadState[] = [];

  constructor(id: bigint, options: NodeOptions = {}) {
    const {
      voters = [1n, 2n, 3n],
      confState,
      entries = [],
      hardState,
      storage = new MemoryStorage(),
      ...config
    } = options;
    this.id = id;
    this.storage = storage;
    if (options.storage === undefined) {
      const members = { ...emptyConfState(), voters: [...voters], ...confState };
      storage.applySnapshot({ metadata: { index: 0, term: 0, confState: members }, data: new Uint8Array(0) });
      storage.append(entries);
      if (hardState !== undefined) storage.setHardState(hardState);
    }
    this.raw = new RawNode({
      id,
      electionTick: ELECTION_TICK,
      heartbeatTick: 1,
      storage,
      maxSizePerMsg: Number.POSITIVE_INFINITY,
      maxInflightMsgs: 256,
      // Election timeouts are no longer than they must be, unless a test says so.
      random: () => 0,
      ...config,
    });
  }

  get state(): string {
    return this.raw.raft.state;
  }

  get term(): number {
    return this.raw.raft.term;
  }

  get committed(): number {
    return this.raw.raft.log.committed;
  }

  /** Terms of all entries that are held, from the first index on. */
  get terms(): number[] {
    const { log } = this.raw.raft;
    return log.entries(log.firstIndex()).map(({ term }) => term);
  }

  /** Handles every Ready; returns what is to be sent. */
  work(): Message[] {
    const messages: Message[] = [];
    while (this.raw.hasReady()) {
      const ready = this.raw.ready();
      // Takes effect before it returns.
      void this.storage.save(ready);
      this.reads.push(...ready.readStates);
      messages.push(...ready.messages);
      for (const each of ready.committedEntries) {
        this.applied.push(each);
        if (each.type !== EntryType.Normal) this.raw.applyConfChange(decodeConfChange(each.type, each.data));
      }
      this.raw.advance();
    }
    return messages;
  }

  /** Takes in a message, of this node's term unless it has another, and handles what comes of it. */
  receive(type: MessageType, from: bigint, fields: Partial<Omit<Message, "type">> = {}): Message[] {
    this.raw.step(newMessage(type, { to: this.id, from, term: this.term, ...fields }));
    return this.work();
  }

  /** Lets time pass, and handles what comes of it. */
  tick(ticks = 1): Message[] {
    const messages: Message[] = [];
    for (let i = 0; i < ticks; i++) {
      this.raw.tick();
      messages.push(...this.work());
    }
    return messages;
  }

  propose(text: string): Message[] {
    this.raw.propose(bytes(text));
    return this.work();
  }

  /** Wins an election by the votes of these nodes; returns what it sends as a leader. */
  lead(...by: readonly bigint[]): Message[] {
    this.raw.campaign();
    this.work();
    return by.flatMap((from) => this.receive(MessageType.MsgVoteResp, from));
  }

  /** A follower has acknowledged up to there. */
  acknowledge(from: bigint, index = this.raw.raft.log.lastIndex()): Message[] {
    return this.receive(MessageType.MsgAppResp, from, { index });
  }
}

/** "2 MsgApp" and so on: to whom which kind goes. */
export const kinds = (messages: readonly Message[]): string[] =>
  messages.map(({ to, type }) => `${to} ${messageTypeName(type)}`);

export class Group {
  readonly nodes = new Map<bigint, TestNode>();
  /** Nodes to and from which nothing gets through. */
  readonly cut = new Set<bigint>();
  /** Messages that a test loses. */
  lost: (message: Message) => boolean = () => false;

  constructor(...nodes: readonly TestNode[]) {
    for (const node of nodes) this.nodes.set(node.id, node);
  }

  /** A group of so many equal nodes. */
  static of(size: number, options: NodeOptions = {}): Group {
    const voters = Array.from({ length: size }, (_, i) => BigInt(i + 1));
    return new Group(...voters.map((id) => new TestNode(id, { voters, ...options })));
  }

  node(id: bigint): TestNode {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  }

  /** Carries messages until none is left. Proposals that are dropped on their way are gone. */
  settle(messages: readonly Message[] = []): void {
    const queue = [...messages];
    for (;;) {
      for (const node of this.nodes.values()) queue.push(...node.work());
      const message = queue.shift();
      if (message === undefined) return;
      const { from, to } = message;
      if (this.cut.has(from) || this.cut.has(to) || this.lost(message)) continue;
      try {
        // As from a wire: nobody shares an entry with anybody.
        this.nodes.get(to)?.raw.step({ ...message, entries: message.entries.map((each) => ({ ...each })) });
      } catch (error) {
        if (!(error instanceof StableLogError)) throw error;
      }
    }
  }

  campaign(id: bigint): TestNode {
    const node = this.node(id);
    node.raw.campaign();
    this.settle();
    return node;
  }

  propose(id: bigint, text: string): void {
    this.node(id).raw.propose(bytes(text));
    this.settle();
  }

  tick(id: bigint, ticks = 1): void {
    for (let i = 0; i < ticks; i++) {
      this.node(id).raw.tick();
      this.settle();
    }
  }
}

export { MessageType };
