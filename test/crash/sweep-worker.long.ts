// Every operation fails with every error, with saves synced by the commit thread's side of the engine: `npm run test:long`.

import { sweep } from "./sweep.js";

sweep("worker");
