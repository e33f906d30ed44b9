// The campaign, first half: see seeds.ts.

import { exploreSeeds } from "./seeds.js";

exploreSeeds(0, 1500);
