// The suite that any storage passes, on ours: two lines each.

import { describe, it } from "vitest";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { testStorage } from "../../src/testing/storage-suite.js";
import { fileStorages } from "./factories.js";

testStorage({ name: "MemoryStorage", open: async () => new MemoryStorage() }, { describe, it });
for (const factory of fileStorages()) testStorage(factory, { describe, it });
