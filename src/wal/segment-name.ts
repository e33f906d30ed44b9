// The names that a log gives its files. Whoever lists the directory asks here what is ours; everything else in it is
// somebody else's and is left alone.

import { hex } from "../base/bytes.js";

export const STATE_NAME = "STATE";
export const STATE_TMP_NAME = "STATE.tmp";
export const SPARE_NAME = "spare";

const GENERATION_DIGITS = 16;
const SEGMENT = /^[0-9a-f]{16}\.seg$/;
const INDEX = /^[0-9a-f]{16}\.idx$/;

/** `<generation, 16 hex digits>.seg` */
export function segmentName(generation: number): string {
  return `${hex(generation, GENERATION_DIGITS)}.seg`;
}

/** `<generation, 16 hex digits>.idx` */
export function indexName(generation: number): string {
  return `${hex(generation, GENERATION_DIGITS)}.idx`;
}

function parse(pattern: RegExp, name: string): number | undefined {
  if (!pattern.test(name)) return undefined;
  const generation = Number.parseInt(name.slice(0, GENERATION_DIGITS), 16);
  return Number.isSafeInteger(generation) && generation > 0 ? generation : undefined;
}

/** The generation that a segment's name says, or undefined when the name is not a segment's. */
export function parseSegmentName(name: string): number | undefined {
  return parse(SEGMENT, name);
}

/** The generation that an index file's name says, or undefined when the name is not an index file's. */
export function parseIndexName(name: string): number | undefined {
  return parse(INDEX, name);
}
