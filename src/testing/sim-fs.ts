// SimFs: a simulated disk under the names of node:fs/promises.

/** What SimFs asks of its disk. */
export interface SimFsDisk {
  readonly operations: number;
}

export class SimFs {
  readonly disk: SimFsDisk;

  constructor(disk: SimFsDisk) {
    this.disk = disk;
  }
}
