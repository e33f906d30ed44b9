// Random: the one source of everything that is drawn in this room, from a seed. Integer arithmetic alone, so the same seed
// draws the same on every platform and version of Node.js. Used by the simulated disk, the explorer, workloads and damage.

/** A sequence of numbers that its seed decides (sfc32). */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #count = 1;

  /** `seed` is any number; its low 53 bits count. */
  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 4294967296) | 0;
    this.#c = 0x9e3779b9;
    // Seeds that differ in one bit have nothing in common after a few rounds.
    for (let i = 0; i < 12; i++) this.bits();
  }

  /** 32 random bits, as an unsigned number. */
  bits(): number {
    const sum = (this.#a + this.#b + this.#count) | 0;
    this.#count = (this.#count + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** A number of [0, 1). */
  next(): number {
    return this.bits() / 4294967296;
  }

  /** An integer of [0, n). */
  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return this.next() < p;
  }

  /** One of `from`, which is not empty. */
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  /** Fills [start, end) of `target` with random bytes. */
  fill(target: Uint8Array, start = 0, end = target.length): void {
    for (let i = start; i < end; i++) target[i] = this.bits() >>> 24;
  }
}

/** One seed out of two numbers, for a sequence that is nobody else's. */
export function seedOf(a: number, b: number): number {
  let mixed = Math.imul((a | 0) ^ 0x85ebca6b, 0x9e3779b1) ^ Math.imul(b | 0, 0xc2b2ae35);
  mixed ^= Math.floor(a / 4294967296) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  mixed = Math.imul(mixed ^ (mixed >>> 12), 0x297a2d39);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
