// The campaign, second half: see seeds.ts.

import { exploreSeeds } from "./seeds.js";

exploreSeeds(1500, 3000);
