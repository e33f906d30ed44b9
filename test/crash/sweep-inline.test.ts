// Every operation fails with every error, with saves synced on the main thread. Long, so it has a process of its own.

import { sweep } from "./sweep.js";

sweep("inline");
