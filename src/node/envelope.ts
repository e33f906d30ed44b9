// Envelope: what a replica puts before a command, so that whoever proposed it knows it again when it is applied. Used by
// replica.ts for commands and for the contexts of configuration changes; state machines never see it.
//
//    0         1                 9                17
//    +---------+-----------------+----------------+--- ... ---+
//    | version | session         | number         | command   |     little-endian
//    +---------+-----------------+----------------+--- ... ---+
//
// A session is one run of one replica, drawn at random; numbers count its proposals. Bytes that begin otherwise were proposed
// by somebody else: they are nobody's, and taken as they are. Who proposes to a driven group by other means than a replica takes
// care that they do.

import { getU64, putU64, viewOf } from "../base/bytes.js";

export const ENVELOPE_BYTES = 17;
const VERSION = 1;
export const SESSION_BYTES = 8;

export function seal(session: Uint8Array, number: number, command: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(ENVELOPE_BYTES + command.length);
  sealed[0] = VERSION;
  sealed.set(session, 1);
  putU64(viewOf(sealed), 1 + SESSION_BYTES, number);
  sealed.set(command, ENVELOPE_BYTES);
  return sealed;
}

export function isSealed(data: Uint8Array): boolean {
  return data.length >= ENVELOPE_BYTES && data[0] === VERSION;
}

/** The command of a proposal, without its envelope; a view, not a copy. */
export function commandOf(data: Uint8Array): Uint8Array {
  return isSealed(data) ? data.subarray(ENVELOPE_BYTES) : data;
}

/** The number under which this session proposed it; undefined for those of others. */
export function numberOf(session: Uint8Array, data: Uint8Array): number | undefined {
  if (!isSealed(data)) return undefined;
  for (let i = 0; i < SESSION_BYTES; i++) if (data[1 + i] !== session[i]) return undefined;
  return getU64(viewOf(data), 1 + SESSION_BYTES);
}
