// All workloads of `npm run bench`, in the order of the report.

import type { Workload } from "../workload.js";
import { compaction } from "./compaction.js";
import { delayWorkloads } from "./delay.js";
import { garbage } from "./garbage.js";
import { member } from "./member.js";
import { memoryWorkloads } from "./memory.js";
import { openWorkloads } from "./open.js";
import { raftWorkloads } from "./raft.js";
import { readWorkloads } from "./reads.js";
import { saveWorkloads } from "./saves.js";
import { tcp } from "./tcp.js";
import { wayWorkloads } from "./ways.js";

export const workloads: readonly Workload[] = [
  ...saveWorkloads,
  tcp,
  member,
  ...openWorkloads,
  ...readWorkloads,
  compaction,
  ...memoryWorkloads,
  ...delayWorkloads,
  garbage,
  ...raftWorkloads,
  ...wayWorkloads,
];
