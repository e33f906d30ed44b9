// `npm run bench -- WHAT`: measures on this machine and prints the machine first. `micro` has the parts without a disk,
// `first` the path to the disk against its floor.

import { parseArgs } from "node:util";
import { first } from "./first.js";
import { micro } from "./micro.js";

const usage = `Usage: npm run bench -- WHAT [OPTIONS]

  micro              checksums and their crossover, encoding, reading, index lookups; nothing touches a disk
  first              a lone saver and 64 savers against write + fdatasync of the same bytes, interleaved in rounds

Options of first:
  --rounds N         rounds; 5 if not given
  --saves N          saves of the lone saver and of the floor in a round; 5000 if not given
  --dir DIR          where to measure; the system's temporary directory if not given`;

function positive(name: string, text: string | undefined, fallback: number): number {
  const value = text === undefined ? fallback : Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`--${name} must be a number from 1, got '${text}'`);
  return value;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: "string" },
      saves: { type: "string" },
      dir: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  const [what, ...rest] = positionals;
  if (values.help === true) {
    console.log(usage);
    return 0;
  }
  if (rest.length === 0 && what === "micro") {
    await micro();
    return 0;
  }
  if (rest.length === 0 && what === "first") {
    const rounds = positive("rounds", values.rounds, 5);
    await first({ rounds, saves: positive("saves", values.saves, 5000), dir: values.dir });
    return 0;
  }
  console.error(usage);
  return 2;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  },
);
