// The raft core against transcripts: scripts of our own, which always run, and upstream's where RAFT_TESTDATA names their
// folder. A changed transcript is understood before it is committed.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parseScript } from "../../src/testing/datadriven.js";
import { InteractionEnv, withoutLogs } from "../../src/testing/interaction-env.js";
import { runRaftScript, scriptKinds } from "../../src/testing/raft-scripts.js";

const own = fileURLToPath(new URL("scripts", import.meta.url));
const upstream = process.env["RAFT_TESTDATA"];

function scriptsOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".txt")) : [];
}

for (const [whose, folder] of [
  ["ours", own],
  ["upstream's", upstream],
] as const) {
  // Upstream's scripts stay out of this repo: skipped where nobody has said where they are.
  describe.skipIf(folder === undefined)(`${whose} transcripts`, () => {
    for (const kind of scriptKinds) {
      const path = join(folder ?? "", kind);
      it.each(scriptsOf(path))(`${kind}: %s`, async (name) => {
        expect(await runRaftScript(kind, readFileSync(join(path, name), "utf8"))).toEqual([]);
      });
    }
  });
}

describe("runRaftScript()", () => {
  it("tells each directive whose output differs, with both outputs, and goes on", async () => {
    const text =
      "vote cfg=(1) votes=(y)\n----\nVoteLost\n\nvote cfg=(1) votes=(n)\n----\nVoteLost\n\nvote cfg=(1) votes=(_)\n----\n";
    const differences = await runRaftScript("quorum", text);
    expect(differences).toEqual(["line 1: vote\n- VoteLost\n+ VoteWon", "line 9: vote\n- \n+ VotePending"]);
  });

  it("leaves the logger's lines out, and takes an expectation of nothing else for ok", () => {
    expect(withoutLogs("INFO 1 became leader\n")).toBe("ok\n");
    expect(withoutLogs("> 1 handling Ready\n  DEBUG x\n  Ready MustSync=true:\n")).toBe(
      "> 1 handling Ready\n  Ready MustSync=true:\n",
    );
  });
});

describe("parseScript()", () => {
  it("reads arguments, continued lines, input, comments and expectations with blank lines", () => {
    const text = [
      "# a comment",
      "",
      "do a=1 b=(2, 3,(4,5)) c= \\",
      "   d=() e",
      "some input",
      "# which is no comment here",
      "----",
      "----",
      "first",
      "",
      "second",
      "----",
      "----",
      "",
      "bare",
      "----",
    ].join("\n");
    const [first, second] = parseScript(text);
    expect(first).toEqual({
      line: 3,
      command: "do",
      args: [
        { key: "a", values: ["1"] },
        { key: "b", values: ["2", "3", "(4,5)"] },
        { key: "c", values: [""] },
        { key: "d", values: [""] },
        { key: "e", values: [] },
      ],
      input: "some input\n# which is no comment here",
      expected: "first\n\nsecond\n",
    });
    expect(second).toMatchObject({ command: "bare", args: [], input: "", expected: "" });
  });

  it.each([
    ["do =1", "an argument without a name"],
    ["do a=(1", "is not closed"],
    ["do\n----\n----\nfor ever", "does not end"],
  ])("refuses %j", (text, why) => {
    expect(() => parseScript(text)).toThrow(why);
  });
});

describe("InteractionEnv", () => {
  it("gives back the error alone when it is to say nothing", async () => {
    const env = new InteractionEnv();
    const run = async (text: string): Promise<string> => env.handle(parseScript(`${text}\n----\n`)[0] as never);
    expect(await run("add-nodes 1 voters=(1) index=1")).toBe("index must be specified as > 1 due to bootstrap");
    expect(await run("log-level none")).toBe("ok");
    expect(await run("add-nodes 1 voters=(1) index=2")).toBe("ok");
    expect(await run("stabilize")).toBe("ok");
    expect(await run("propose 1 x")).toBe("raft proposal dropped");
    expect(await run("log-level loud")).toBe("log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]");
  });
});
