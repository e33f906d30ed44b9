// Plays the sequences of cases.ts on a server, and makes the answers of two servers comparable: what names a group, a member or
// a moment is replaced. Also starts a real etcd, where there is one.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Step } from "./cases.js";

/** A server of etcd's API, fresh. */
export interface Target {
  readonly url: string;
  readonly peerUrl: string;
  readonly clientUrl: string;
  close(): Promise<void>;
}

export interface Played extends Step {
  readonly status: number;
  readonly answer: unknown;
}

export async function play(steps: readonly Step[], target: Target): Promise<Played[]> {
  const ids = new Map<string, string>();
  let self = "";
  let member = "";
  const played: Played[] = [];
  for (const { path, body } of steps) {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const sent = text.replace("$member", member).replace("$self", self);
    const response = await fetch(target.url + path, { method: "POST", body: sent });
    const answer = JSON.parse(await response.text()) as {
      header?: { member_id: string };
      member?: { ID: string };
    };
    self = answer.header?.member_id ?? self;
    member = answer.member?.ID ?? member;
    played.push({ path, body, status: response.status, answer: neutral(answer, target, ids) });
  }
  return played;
}

const own = new Set(["cluster_id", "member_id", "raft_term", "raftTerm", "raftIndex", "raftAppliedIndex", "leader"]);
const sizes = new Set(["dbSize", "dbSizeInUse", "version"]);

/** An answer without what differs from server to server; IDs of members are numbered as they come up. */
function neutral(value: unknown, target: Target, ids: Map<string, string>): unknown {
  if (typeof value === "string")
    return value === target.peerUrl ? "PEER" : value === target.clientUrl ? "CLIENT" : value;
  if (Array.isArray(value)) return value.map((item) => neutral(item, target, ids));
  if (typeof value !== "object" || value === null) return value;
  const isStatus = "raftIndex" in value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]: [string, unknown]) => {
      if (own.has(key) || (isStatus && sizes.has(key))) return [key, /^[1-9][\d.]*$/.test(String(item)) ? "*" : item];
      if (key === "ID") {
        const id = String(item);
        if (!ids.has(id)) ids.set(id, `member ${ids.size}`);
        return [key, ids.get(id)];
      }
      // What a JSON reader has to say is its own; that it refuses is not.
      if ((key === "error" || key === "message") && !String(item).startsWith("etcdserver: ")) return [key, "*"];
      const inner = neutral(item, target, ids);
      // etcd's list of members is in no order.
      if (key === "members") (inner as { ID: string }[]).sort((one, other) => (one.ID < other.ID ? -1 : 1));
      return [key, inner];
    }),
  );
}

/** The version of the etcd on the PATH, if there is one. */
export function etcdVersion(): string | undefined {
  const { stdout, error } = spawnSync("etcd", ["--version"], { encoding: "utf8" });
  return error === undefined ? /^etcd Version: (\S+)/m.exec(stdout)?.[1] : undefined;
}

/** An etcd of one member in a directory of its own. */
export async function startEtcd(): Promise<Target> {
  const home = mkdtempSync(join(tmpdir(), "stablelog-etcd-"));
  const clientUrl = `http://127.0.0.1:${await freePort()}`;
  const peerUrl = `http://127.0.0.1:${await freePort()}`;
  const urls = [
    ...["--listen-client-urls", clientUrl, "--advertise-client-urls", clientUrl],
    ...["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
  ];
  const args = ["--name", "default", "--data-dir", home, ...urls, "--initial-cluster", `default=${peerUrl}`];
  const child = spawn("etcd", args, { stdio: "ignore" });
  const close = async (): Promise<void> => {
    await ended(child);
    rmSync(home, { recursive: true, force: true });
  };
  // A group that has a leader answers reads.
  while (!(await answers(clientUrl))) {
    if (child.exitCode !== null) {
      await close();
      throw new Error(`etcd ended with ${child.exitCode}`);
    }
    await sleep(50);
  }
  return { url: clientUrl, clientUrl, peerUrl, close };
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/v3/kv/range`, { method: "POST", body: '{"key":"AA=="}' });
    await response.text();
    return response.ok;
  } catch {
    return false;
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
