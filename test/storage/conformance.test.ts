// The suite that any storage passes, on ours: two lines each.

import { describe, it } from "vitest";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { testStorage } from "../../src/testing/storage-suite.js";

testStorage({ name: "MemoryStorage", open: async () => new MemoryStorage() }, { describe, it });
