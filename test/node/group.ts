// A group of driven nodes in one process, for the tests of Node and Replica: storages on simulated or plain memory, a network
// whose links can be cut, and a state machine that remembers what it was given.

import { vi } from "vitest";
import { Node, type NodeConfig } from "../../src/node/node.js";
import type { Replica, RunOptions } from "../../src/node/replica.js";
import type { StateMachine } from "../../src/node/state-machine.js";
import type { WritableStorage } from "../../src/raft/storage.js";
import type { ConfState } from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { LocalNetwork } from "../../src/testing/local-network.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const bytes = (text: string): Uint8Array => encoder.encode(text);
export const text = (data: Uint8Array): string => decoder.decode(data);

/** Keeps every command in order; answers each with its place. Its snapshots are streams of one command a chunk. */
export class History implements StateMachine<string> {
  commands: string[] = [];
  readonly confStates: ConfState[] = [];
  readonly contexts: string[] = [];
  restores = 0;
  /** Awaited before each apply. */
  gate: Promise<void> | undefined;

  async apply(commands: Parameters<StateMachine<string>["apply"]>[0]): Promise<string[]> {
    await this.gate;
    return commands.map(({ data }) => {
      this.commands.push(text(data));
      return `${this.commands.length}:${text(data)}`;
    });
  }

  applyConfChange({ confState, change }: Parameters<NonNullable<StateMachine<string>["applyConfChange"]>>[0]): void {
    this.confStates.push(confState);
    this.contexts.push(text(change.context));
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    for (const command of [...this.commands]) yield bytes(`${command}\n`);
  }

  async restore(data: AsyncIterable<Uint8Array>): Promise<void> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of data) chunks.push(chunk.slice());
    this.commands = text(Buffer.concat(chunks)).split("\n").slice(0, -1);
    this.restores++;
  }
}

export interface Member {
  readonly id: bigint;
  readonly node: Node;
  readonly replica: Replica<string>;
  readonly machine: History;
  readonly storage: WritableStorage;
}

export interface GroupOptions {
  readonly config?: Partial<NodeConfig>;
  readonly run?: Partial<Pick<RunOptions<string>, "snapshotEntries" | "keepEntries" | "sendBeforeSave">>;
  readonly storage?: (id: bigint) => Promise<WritableStorage>;
}

/** Members that tick every 10 ms, unless the config says otherwise; closed by close(). */
export class Group {
  readonly network = new LocalNetwork();
  readonly members = new Map<bigint, Member>();
  readonly #options: GroupOptions;
  readonly #storages = new Map<bigint, WritableStorage>();

  constructor(options: GroupOptions = {}) {
    this.#options = options;
  }

  static async of(voters: readonly bigint[], options: GroupOptions = {}): Promise<Group> {
    const group = new Group(options);
    for (const id of voters) {
      await Node.bootstrap(await group.storage(id), voters);
      await group.start(id);
    }
    return group;
  }

  async storage(id: bigint): Promise<WritableStorage> {
    const storage = this.#storages.get(id) ?? (await this.#options.storage?.(id)) ?? new MemoryStorage();
    this.#storages.set(id, storage);
    return storage;
  }

  /** Starts a member on the storage it has, or an empty one. */
  async start(id: bigint, machine = new History()): Promise<Member> {
    const storage = await this.storage(id);
    const node = new Node({ id, storage, tickMs: 10, ...this.#options.config });
    const transport = this.network.transport(id);
    const replica = await node.run({ storage, transport, stateMachine: machine, ...this.#options.run });
    const member = { id, node, replica, machine, storage };
    this.members.set(id, member);
    return member;
  }

  /** Stops a member; its storage stays as it is. */
  async stop(id: bigint): Promise<void> {
    const member = this.members.get(id);
    this.members.delete(id);
    await member?.replica.stop();
  }

  member(id: bigint): Member {
    const member = this.members.get(id);
    if (member === undefined) throw new Error(`there is no member ${id}`);
    return member;
  }

  /** The member that leads, once there is one that all of `among` follow. */
  async leader(among = [...this.members.keys()]): Promise<Member> {
    return until(() => {
      const leads = new Set(among.map((id) => this.member(id).node.basicStatus().softState.lead));
      const [lead] = leads;
      return leads.size === 1 && lead !== undefined ? this.members.get(lead) : undefined;
    });
  }

  async close(): Promise<void> {
    for (const id of [...this.members.keys()]) await this.stop(id);
    for (const storage of this.#storages.values()) await storage.close();
  }
}

/** Looks again and again until there is something; the limit of time is that of the test. */
export function until<T>(look: () => T | undefined | false): Promise<T> {
  return vi.waitUntil(() => look() ?? false, { interval: 2, timeout: 55_000 }) as Promise<T>;
}
