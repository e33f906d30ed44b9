// `npm run fire`: the store of fire.test.ts under fire, one seed after another, a minute each and five of them unless
// STABLELOG_FIRE and STABLELOG_FIRES say otherwise; STABLELOG_SEED is the first.

import { it } from "vitest";
import { fire } from "./fire.js";

const seconds = Number(process.env["STABLELOG_FIRE"] ?? 60);
const fires = Number(process.env["STABLELOG_FIRES"] ?? 5);
const first = Number(process.env["STABLELOG_SEED"] ?? Math.floor(Date.now() / 1000));

it.each(Array.from({ length: fires }, (_, i) => first + i))(
  "SEED=%i",
  async (seed) => {
    console.log(`SEED=${seed}`, JSON.stringify(await fire({ seed, seconds, say: console.log })));
  },
  seconds * 1000 + 240_000,
);
