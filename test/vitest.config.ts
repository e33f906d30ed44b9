// Vitest's settings, for `npm test` and `npm run coverage`. One process a test file, because the tests look at locks, at
// memory and at file descriptors; generous limits, because a busy disk is no failure.
// STABLELOG_TEST_REPORT names a file for the counts in JSON; .ci/run sums them up.

import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const report = process.env["STABLELOG_TEST_REPORT"];

export default defineConfig({
  test: {
    root: fileURLToPath(new URL("..", import.meta.url)),
    include: ["test/**/*.test.ts"],
    exclude: ["test/fixtures/**"],
    pool: "forks",
    // Vitest keeps a core for itself, and its main process idles: on two cores the files would run one after another.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 60_000,
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
    coverage: {
      provider: "v8",
      include: ["src/**/*.ts"],
      reporter: ["text", "html"],
    },
  },
});
