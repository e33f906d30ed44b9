// Settings of `npm run test:long`: the tests that take minutes, in files called *.long.ts. CI runs them; `npm test` does not.

import { mergeConfig } from "vitest/config";
import base from "./vitest.config.js";

const long = mergeConfig(base, { test: { testTimeout: 600_000, maxConcurrency: 2 } });
// Replaced, not added to: these files alone.
long.test.include = ["test/**/*.long.ts"];

export default long;
