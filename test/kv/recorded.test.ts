// The example docs/examples/kv against etcd: the same requests, the same answers. test/fixtures/kv/ has what an etcd answered; where
// there is an etcd on the PATH it is asked as well. To record anew: STABLELOG_KV_RECORD=1 and this file.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { serve } from "../../docs/examples/kv/server.js";
import { cases, type Step } from "./cases.js";
import { CLIENT_URL, freshGateway, PEER_URL } from "./harness.js";
import { etcdVersion, type Played, play, startEtcd, type Target } from "./play.js";

interface Recording {
  readonly etcd: string;
  readonly steps: readonly Played[];
}

const version = etcdVersion();
const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/kv/${name}.json`, import.meta.url));

async function startOurs(): Promise<Target> {
  const { gateway } = await freshGateway();
  const server = await serve(gateway, "127.0.0.1", 0);
  const url = `http://127.0.0.1:${server.port}`;
  return { url, peerUrl: PEER_URL, clientUrl: CLIENT_URL, close: () => server.close() };
}

async function playOn(start: () => Promise<Target>, steps: readonly Step[]): Promise<Played[]> {
  const target = await start();
  try {
    return await play(steps, target);
  } finally {
    await target.close();
  }
}

/** As an etcd of 3.5 would have answered: before, grpc-gateway made 412 of FailedPrecondition. */
function asToday(played: readonly Played[]): Played[] {
  return played.map((step) => (step.status === 412 ? { ...step, status: 400 } : step));
}

describe.each(Object.entries(cases))("%s", (name, steps) => {
  if (version !== undefined && process.env["STABLELOG_KV_RECORD"] !== undefined) {
    test("is recorded", async () => {
      const lines = (await playOn(startEtcd, steps)).map((step) => JSON.stringify(step));
      writeFileSync(fixture(name), `{"etcd":${JSON.stringify(version)},"steps":[\n${lines.join(",\n")}\n]}\n`);
      expect(lines).toHaveLength(steps.length);
    });
  }

  test("is answered as etcd answered it", async () => {
    const { steps: recorded } = JSON.parse(readFileSync(fixture(name), "utf8")) as Recording;
    expect(recorded.map(({ path, body }) => ({ path, body }))).toEqual(steps);
    expect(await playOn(startOurs, steps)).toEqual(asToday(recorded));
  });

  test.skipIf(version === undefined)("is answered as etcd answers it", async () => {
    expect(await playOn(startOurs, steps)).toEqual(asToday(await playOn(startEtcd, steps)));
  });
});

test("the sequences reach what they are made for", () => {
  const recordings = Object.keys(cases).map((name) => JSON.parse(readFileSync(fixture(name), "utf8")) as Recording);
  const played = recordings.flatMap((each) => each.steps);
  const texts = new Set(played.map(({ answer }) => (answer as { error?: string }).error));
  expect([...texts].filter((text) => text?.startsWith("etcdserver: ")).sort()).toEqual([
    "etcdserver: duplicate key given in txn request",
    "etcdserver: given member URLs are invalid",
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: lease is provided",
    "etcdserver: member not found",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: requested lease not found",
    "etcdserver: too many learner members in cluster",
    "etcdserver: too many operations in txn request",
    "etcdserver: value is provided",
  ]);
  const random = ["random-1", "random-2"].flatMap((name) => JSON.parse(readFileSync(fixture(name), "utf8")).steps);
  const good = random.filter(({ status }: Played) => status === 200);
  expect(good.length).toBeGreaterThan(random.length / 2);
});
