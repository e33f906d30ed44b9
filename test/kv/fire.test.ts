// The replicated store under fire, for some seconds; `npm run fire` has more. STABLELOG_FIRE: seconds; STABLELOG_SEED: the seed.

import { expect, it } from "vitest";
import { fire } from "./fire.js";

const seconds = Number(process.env["STABLELOG_FIRE"] ?? 8);
const seed = Number(process.env["STABLELOG_SEED"] ?? Math.floor(Date.now() / 86_400_000));

it(
  `loses no acknowledged write, applies none twice, and stays linearizable: ${seconds} s, SEED=${seed}`,
  async () => {
    const lines: string[] = [];
    const report = await fire({ seed, seconds, say: (line) => lines.push(line) });
    console.log(JSON.stringify(report));
    expect(report.acknowledged).toBeGreaterThan(0);
    expect(lines.length).toBeGreaterThan(0);
  },
  seconds * 1000 + 240_000,
);
