// Fire: a replicated store of real processes, clients that write and read, and everything that may happen to it: members are killed
// and paused, links are cut, the group grows and shrinks. Afterwards the history is judged. Run by fire.test.ts and `npm run fire`.
//
// What is held: every key's history is linearizable; no acknowledged write is lost; none is applied twice; all members are equal
// in the end. A seed repeats what is done to the group, not when a message arrives.

import { Random } from "../../src/testing/random.js";
import { isLinearizable, type RegisterOperation } from "./linearizability.js";
import { freePort, HOST } from "./links.js";
import { type Answer, ask, base64, fromBase64, Members, type Process } from "./members.js";

export interface FireOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly clients?: number | undefined;
  readonly say?: ((line: string) => void) | undefined;
}

export interface FireReport {
  operations: number;
  acknowledged: number;
  /** Writes of whose outcome nobody heard. */
  unknown: number;
  keys: number;
  kills: number;
  pauses: number;
  cuts: number;
  joined: number;
  removed: number;
}

export class FireFailure extends Error {
  constructor(seed: number, message: string, story: string) {
    super(`SEED=${seed}: ${message}\n${story}`);
    this.name = "FireFailure";
  }
}

/** A write or read of a key, and the revision that an acknowledged write was told. */
interface Operation extends RegisterOperation {
  readonly key: string;
  readonly revision: number | undefined;
}

/** Keys change so often, which bounds what the checker has to search. */
const EPOCH_MS = 3000;
const KEYS_AN_EPOCH = 4;
const REQUEST_MS = 1000;
/** A group that is whole again has so long to answer. */
const RECOVERY_MS = 60_000;

const FOUNDERS = [1n, 2n, 3n];

export async function fire({ seed, seconds, clients = 6, say = () => {} }: FireOptions): Promise<FireReport> {
  // Snapshots come often enough to be needed; every second seed writes asynchronously.
  const flags = ["--tick-ms", "20", "--snapshot-entries", "100", "--keep-entries", "20"];
  if (seed % 2 === 1) flags.push("--async-writes");
  const members = await Members.of(FOUNDERS, flags);
  const run = new Fire(seed, members, say);
  try {
    return await run.run(seconds, clients);
  } catch (error) {
    if (error instanceof FireFailure) throw error;
    throw new FireFailure(
      seed,
      error instanceof Error ? (error.stack ?? error.message) : String(error),
      members.story(),
    );
  } finally {
    await members.close();
  }
}

class Fire {
  readonly #seed: number;
  readonly #random: Random;
  readonly #members: Members;
  readonly #tell: (line: string) => void;
  readonly #done: string[] = [];
  readonly #operations: Operation[] = [];
  readonly #begun = performance.now();
  /** Ports that were promised to members whose being added nobody heard of, by the URL they were to have. */
  readonly #promised = new Map<string, number>();
  #burning = true;
  #answered = 0n;
  readonly #report: FireReport = {
    operations: 0,
    acknowledged: 0,
    unknown: 0,
    keys: 0,
    kills: 0,
    pauses: 0,
    cuts: 0,
    joined: 0,
    removed: 0,
  };

  constructor(seed: number, members: Members, say: (line: string) => void) {
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#members = members;
    this.#tell = say;
  }

  async run(seconds: number, clients: number): Promise<FireReport> {
    for (const id of FOUNDERS) await this.#members.start(id);
    await this.#answers("the group has just started");
    const running = Array.from({ length: clients }, (_, i) => this.#client(i, new Random(this.#seed * 1000 + i)));
    const until = performance.now() + seconds * 1000;
    while (performance.now() < until) {
      await pause(200 + this.#random.below(800));
      await this.#harm();
    }
    await this.#heal();
    this.#burning = false;
    await Promise.all(running);
    await this.#answers("everything is whole again");
    await this.#judge();
    return this.#report;
  }

  /** Throws, with what each member says of itself and what was done to them last. */
  async #fail(message: string): Promise<never> {
    const told = await Promise.all(
      this.#members.running().map(async (member) => {
        const answer = await ask(member, "/v3/maintenance/status", {}, REQUEST_MS);
        const list = await ask(member, "/v3/cluster/member/list", { linearizable: false }, REQUEST_MS);
        const ids = list?.body?.members?.map(({ ID }: { ID: string }) => ID);
        return `${member.id}: ${JSON.stringify(answer?.body)} members ${ids}`;
      }),
    );
    const story = [...told, ...this.#done.slice(-20), this.#members.story()].join("\n");
    throw new FireFailure(this.#seed, message, story);
  }

  #say(line: string): void {
    this.#done.push(`${Math.round(performance.now() - this.#begun)} ms: ${line}`);
    this.#tell(line);
  }

  // ---- clients

  async #client(client: number, random: Random): Promise<void> {
    let written = 0;
    /** What was last seen of a key: what a cas may want to find. */
    const seen = new Map<string, string | undefined>();
    while (this.#burning) {
      const running = this.#members.running();
      const epoch = Math.floor((performance.now() - this.#begun) / EPOCH_MS);
      const key = `${epoch}/${random.below(KEYS_AN_EPOCH)}`;
      if (running.length === 0) {
        await pause(20);
        continue;
      }
      const member = random.pick(running);
      const choice = random.below(100);
      if (choice < 45) await this.#put(member, key, `${client}.${written++}`, seen);
      else if (choice < 65) await this.#cas(member, key, seen.get(key), `${client}.${written++}`, seen);
      else await this.#get(member, key, seen);
      if (random.chance(0.3)) await pause(random.below(20));
    }
  }

  async #put(member: Process, key: string, value: string, seen: Map<string, string | undefined>): Promise<void> {
    const invoked = performance.now();
    const answer = await ask(member, "/v3/kv/put", { key: base64(key), value: base64(value) }, REQUEST_MS);
    if (!this.#counts(answer)) return;
    const known = answer?.status === 200;
    this.#note({ kind: "put", key, value, invoked, ...this.#outcome(known, answer) });
    if (known) seen.set(key, value);
  }

  async #cas(
    member: Process,
    key: string,
    expected: string | undefined,
    value: string,
    seen: Map<string, string | undefined>,
  ): Promise<void> {
    const compare =
      expected === undefined
        ? { key: base64(key), target: "VERSION", result: "EQUAL", version: "0" }
        : { key: base64(key), target: "VALUE", result: "EQUAL", value: base64(expected) };
    const success = [{ request_put: { key: base64(key), value: base64(value) } }];
    const invoked = performance.now();
    const answer = await ask(member, "/v3/kv/txn", { compare: [compare], success }, REQUEST_MS);
    if (!this.#counts(answer)) return;
    const known = answer?.status === 200;
    const result = answer?.body?.succeeded === true;
    this.#note({ kind: "cas", key, value, expected, result, invoked, ...this.#outcome(known, answer) });
    if (known && result) seen.set(key, value);
    else seen.delete(key);
  }

  async #get(member: Process, key: string, seen: Map<string, string | undefined>): Promise<void> {
    const invoked = performance.now();
    const answer = await ask(member, "/v3/kv/range", { key: base64(key) }, REQUEST_MS);
    this.#counts(answer);
    if (answer?.status !== 200) return;
    const [kv] = answer.body.kvs ?? [];
    const result = kv === undefined ? undefined : fromBase64(kv.value ?? "");
    this.#note({ kind: "get", key, result, invoked, returned: performance.now(), revision: undefined });
    seen.set(key, result);
  }

  /** False for what never reached anybody: it did not happen. */
  #counts(answer: Answer | undefined): boolean {
    return answer?.status !== 0;
  }

  #outcome(known: boolean, answer: Answer | undefined): Pick<Operation, "returned" | "revision"> {
    if (!known) return { returned: undefined, revision: undefined };
    return { returned: performance.now(), revision: Number(answer?.body?.header?.revision) };
  }

  #note(operation: Operation): void {
    this.#operations.push(operation);
    this.#report.operations++;
    if (operation.kind === "get") return;
    if (operation.returned === undefined) this.#report.unknown++;
    else this.#report.acknowledged++;
  }

  // ---- harm

  async #harm(): Promise<void> {
    const random = this.#random;
    const members = this.#members;
    const ids = [...members.all.keys()];
    const choice = random.below(100);
    if (choice < 20) {
      const id = random.pick(ids);
      this.#report.kills++;
      this.#say(`kill ${id}`);
      await members.kill(id);
    } else if (choice < 25) {
      this.#report.kills += ids.length;
      this.#say("kill all");
      await Promise.all(ids.map((id) => members.kill(id)));
    } else if (choice < 55) {
      for (const id of ids) await members.start(id);
      for (const id of ids) members.resume(id);
      if (random.chance(0.7)) members.links.mendAll();
      this.#say("start all");
    } else if (choice < 62) {
      const id = random.pick(ids);
      this.#report.pauses++;
      this.#say(`pause ${id}`);
      members.pause(id);
    } else if (choice < 76) {
      const from = random.pick(ids);
      const isolated = random.chance(0.5);
      const others = isolated ? ids : [random.pick(ids)];
      this.#report.cuts++;
      this.#say(`cut ${from} from ${others.join(" ")}`);
      for (const to of others) {
        members.links.cut(from, to);
        // One way only, now and then: raft's pre-vote and check-quorum are there for that.
        if (random.chance(0.7)) members.links.cut(to, from);
      }
    } else if (ids.length < 5 && (ids.length <= 3 || random.chance(0.5))) {
      await this.#grow();
    } else if (ids.length > 3) {
      await this.#shrink(random.pick(ids));
    }
  }

  /** Asks for a member to be added, and starts it by the ID in the answer. */
  async #grow(): Promise<void> {
    const port = await freePort();
    const url = `http://${HOST}:${port}`;
    this.#promised.set(url, port);
    const answer = await this.#somebody("/v3/cluster/member/add", { peerURLs: [url] });
    this.#say(`add a member at ${port}: ${answer?.status ?? "no answer"}`);
    if (answer?.status === 200) await this.#startAdded(answer.body.member);
  }

  async #startAdded({ ID, peerURLs }: { ID: string; peerURLs: string[] }): Promise<void> {
    const port = this.#promised.get(peerURLs[0] ?? "");
    if (port === undefined || this.#members.all.has(BigInt(ID))) return;
    await this.#members.add(BigInt(ID), port);
    await this.#members.start(BigInt(ID));
    this.#report.joined++;
  }

  async #shrink(id: bigint): Promise<void> {
    const answer = await this.#somebody("/v3/cluster/member/remove", { ID: String(id) });
    this.#say(`remove ${id}: ${answer?.status ?? "no answer"}`);
    if (answer?.status !== 200) return;
    this.#report.removed++;
    await this.#members.forget(id);
  }

  async #somebody(path: string, body: unknown): Promise<Answer | undefined> {
    const running = this.#members.running().filter(({ paused }) => !paused);
    return running.length === 0 ? undefined : ask(this.#random.pick(running), path, body, REQUEST_MS);
  }

  async #heal(): Promise<void> {
    this.#say("heal");
    this.#members.links.mendAll();
    for (const id of this.#members.all.keys()) {
      await this.#members.start(id);
      this.#members.resume(id);
    }
    // A member of whose being added nobody heard is one all the same.
    await this.#answers("links are mended and everybody is started");
    const list = await this.#asked("/v3/cluster/member/list", {});
    for (const member of list.body.members) await this.#startAdded(member);
  }

  // ---- judgement

  /** Asks until somebody answers a linearizable read. */
  async #answers(when: string): Promise<Process> {
    const deadline = performance.now() + RECOVERY_MS;
    while (performance.now() < deadline) {
      for (const member of this.#members.running()) {
        const answer = await ask(member, "/v3/kv/range", { key: base64("any") }, REQUEST_MS);
        if (answer?.status === 200) return member;
      }
      await pause(50);
    }
    return this.#fail(`nobody answers, ${when}`);
  }

  async #judge(): Promise<void> {
    const byKey = new Map<string, Operation[]>();
    for (const operation of this.#operations) {
      const of = byKey.get(operation.key);
      if (of === undefined) byKey.set(operation.key, [operation]);
      else of.push(operation);
    }
    this.#report.keys = byKey.size;
    await this.#allEqual();
    for (const [key, operations] of byKey) {
      if (!isLinearizable(operations)) {
        await this.#fail(
          `the history of ${key} is not linearizable:\n${operations.map((each) => JSON.stringify(each)).join("\n")}`,
        );
      }
      await this.#holdAgainstHistory(key, operations);
    }
  }

  /** Every value that ever stood at the key, with its revision, against who wrote it and what they were told. */
  async #holdAgainstHistory(key: string, operations: readonly Operation[]): Promise<void> {
    const stood = new Map<string, number>();
    let versions: number | undefined;
    for (let revision = 0; ; ) {
      const at = revision === 0 ? {} : { revision: String(revision) };
      const answer = await this.#asked("/v3/kv/range", { key: base64(key), ...at });
      const [kv] = answer.body.kvs ?? [];
      if (kv === undefined) break;
      const value = fromBase64(kv.value ?? "");
      if (stood.has(value)) await this.#fail(`${value} was written twice to ${key}`);
      stood.set(value, Number(kv.mod_revision));
      versions ??= Number(kv.version);
      revision = Number(kv.mod_revision) - 1;
      if (revision < 1) break;
    }
    if ((versions ?? 0) !== stood.size) await this.#fail(`${key} has version ${versions} and ${stood.size} values`);
    const writers = new Map(operations.filter(({ kind }) => kind !== "get").map((each) => [each.value, each]));
    for (const [value] of stood) if (!writers.has(value)) await this.#fail(`nobody wrote ${value} to ${key}`);
    for (const { kind, value, result, returned, revision } of writers.values()) {
      const at = stood.get(value ?? "");
      const wrote = returned !== undefined && (kind === "put" || result === true);
      if (wrote && at === undefined) await this.#fail(`an acknowledged write was lost: ${value} at ${key}`);
      if (wrote && at !== revision)
        await this.#fail(`${value} at ${key} is of revision ${at}, its writer was told ${revision}`);
      if (returned !== undefined && kind === "cas" && result === false && at !== undefined) {
        await this.#fail(`${value} stands at ${key}, and its writer was told it does not`);
      }
    }
  }

  /** Asks one after the other until somebody answers. */
  async #asked(path: string, body: unknown): Promise<Answer> {
    const deadline = performance.now() + RECOVERY_MS;
    while (performance.now() < deadline) {
      const running = this.#members.running();
      // First who answered last: one that was removed and does not know it yet answers nothing.
      running.sort((a, b) => Number(b.id === this.#answered) - Number(a.id === this.#answered));
      for (const member of running) {
        const answer = await ask(member, path, body, REQUEST_MS);
        this.#answered = member.id;
        if (answer?.status === 200) return answer;
      }
      await pause(20);
    }
    return this.#fail(`${path} is not answered though everything is whole`);
  }

  /** Those that are members hold the same keys and values with the same revisions. */
  async #allEqual(): Promise<void> {
    const deadline = performance.now() + RECOVERY_MS;
    let last = "";
    while (performance.now() < deadline) {
      const list = await this.#somebody("/v3/cluster/member/list", {});
      // An answer may have been late: who is among them now is started.
      for (const member of list?.body?.members ?? []) await this.#startAdded(member);
      const ids = (list?.body?.members ?? []).map(({ ID }: { ID: string }) => BigInt(ID)) as bigint[];
      const states = new Map<string, bigint[]>();
      for (const id of ids) {
        const member = this.#members.all.get(id);
        const everything = { key: base64("\0"), range_end: base64("\0"), serializable: true };
        const answer = member && (await ask(member, "/v3/kv/range", everything, REQUEST_MS));
        const state =
          answer?.status === 200 ? `${answer.body.header.revision} ${JSON.stringify(answer.body.kvs)}` : "no answer";
        states.set(state, [...(states.get(state) ?? []), id]);
      }
      if (ids.length >= 3 && states.size === 1 && !states.has("no answer")) return;
      last = [...states].map(([state, of]) => `${of.join(" ")}: ${state.slice(0, 60)}`).join("\n");
      await pause(100);
    }
    await this.#fail(`the members are not equal in the end:\n${last}`);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
