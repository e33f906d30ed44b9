// KeyIndex: a sorted set of strings. mvcc.ts keeps its keys in one, so as to walk a range of them in order. It is a list of
// sorted blocks of bounded length, which makes adding one among a million a matter of microseconds without a tree.

const MAX_BLOCK = 512;

export class KeyIndex {
  /** No block is empty, and every key of one is below all of the next. */
  readonly #blocks: string[][] = [];

  /** Adds a key that is not in it. */
  add(key: string): void {
    const at = Math.max(this.#blockOf(key), 0);
    const block = this.#blocks[at];
    if (block === undefined) {
      this.#blocks.push([key]);
      return;
    }
    block.splice(firstFrom(block, key), 0, key);
    if (block.length > MAX_BLOCK) this.#blocks.splice(at + 1, 0, block.splice(MAX_BLOCK >>> 1));
  }

  /** Removes a key that is in it. */
  delete(key: string): void {
    const at = this.#blockOf(key);
    const block = this.#blocks[at] as string[];
    block.splice(firstFrom(block, key), 1);
    if (block.length === 0) this.#blocks.splice(at, 1);
  }

  /** The keys from `start` on, in order. The index must not change meanwhile. */
  *from(start: string): Generator<string> {
    let at = Math.max(this.#blockOf(start), 0);
    let skip = firstFrom(this.#blocks[at] ?? [], start);
    for (; at < this.#blocks.length; at++, skip = 0) {
      const block = this.#blocks[at] as string[];
      for (let i = skip; i < block.length; i++) yield block[i] as string;
    }
  }

  /** The last block that begins at or below `key`; -1 when none does. */
  #blockOf(key: string): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#blocks[middle]?.[0] as string) <= key) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** Where the first key at or above `key` stands. */
function firstFrom(block: readonly string[], key: string): number {
  let low = 0;
  let high = block.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((block[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
