// Every constant of the on-disk format, under the boxes of docs/FORMAT.md (a test holds the two equal). Encoders and
// decoders of this room import their offsets from here and nowhere else; each offset is named once. All numbers are
// little-endian. Zero is no valid magic, kind, generation, sequence or block length, so zeros never read as data.
//
// A segment file is a head frame, then frames, then zeros to the end of the file:
//
//   frame     header (64) | body | zeros to a multiple of 8 | trailer (8)
//
//   header    0        4       6     7    8            16         24        32       40      48      52      56      60
//             +--------+-------+-----+----+------------+----------+---------+--------+-------+-------+-------+-------+------+
//             | crc    | magic | ver |kind| generation | sequence | durable | offset | logId | body  | meta  | body  |chain |
//             | u32    | u16   | u8  | u8 | u64        | u64      | u64     | u64    | u64   | bytes | bytes | crc   | u32  |
//             +--------+-------+-----+----+------------+----------+---------+--------+-------+-------+-------+-------+------+
//             crc covers [4, 64), begun with the segment's seed. durable is the sequence of the last frame known synced
//             when this one was written. chain is the header crc of the frame before, across segments.
//
//   body      of a frame: one part.  Of a head: link (80), then one part.
//             body crc covers the first `meta bytes` of the body, and then the block directory where there is one.
//
//   part      group u64 | flags u8, zero u8 x3 | mark bytes u32 | count u32 | blocks u32          24 bytes, then what flags say:
//             BASE:    index u64 | tag u64                                                        compaction or reset
//             STATE:   24 bytes                                                                   opaque to this room
//             MARK:    mark bytes, zeros to a multiple of 8                                       opaque to this room
//             RECORDS: first u64 | tag of the first record u64, then records (blocks = 0)
//                      or blocks and their directory (blocks > 0)
//
//   record    data bytes u32 | tag low u32 | kind u8, tag high u24 | data
//   block     check u32 | record bytes u32 | first u64 | records | zeros to a multiple of 8
//             check is crc(block from its record bytes on) xor the segment's seed, so it can be stamped without a second pass
//   directory {record bytes u32 | crc u32} a block
//
//   link      logId 16 B | previous generation u64 | its end u64 | its last sequence u64 | its first index u64 |
//             base index u64 | base tag u64 | last index u64 | capacity u64

/** Version of everything in this file. A reader refuses a higher one with ERR_FORMAT_VERSION. */
export const FORMAT_VERSION = 1;

export const HEADER_BYTES = 64;
export const TRAILER_BYTES = 8;
/**
 * Every byte has several bits set: a frame whose end a killed write left zero is never one bit away from a whole frame,
 * which is what tells a tear from a flipped bit.
 */
export const TRAILER_WORD = 0xa55aa55a;

export const MAGIC = 0x4c53;
export const KIND_FRAME = 1;
export const KIND_HEAD = 2;

export const H_CRC = 0;
export const H_MAGIC = 4;
export const H_VERSION = 6;
export const H_KIND = 7;
export const H_GENERATION = 8;
export const H_SEQUENCE = 16;
export const H_DURABLE = 24;
export const H_OFFSET = 32;
export const H_LOG_ID = 40;
export const H_BODY_BYTES = 48;
export const H_META_BYTES = 52;
export const H_BODY_CRC = 56;
export const H_CHAIN = 60;

export const PART_BYTES = 24;
export const P_GROUP = 0;
export const P_FLAGS = 8;
export const P_MARK_BYTES = 12;
export const P_COUNT = 16;
export const P_BLOCKS = 20;

/** The part carries records (or, with count 0, cuts the log before `first`). */
export const F_RECORDS = 1;
export const F_STATE = 2;
export const F_MARK = 4;
/** The log is emptied; `base` becomes the dummy. */
export const F_RESET = 8;
/** Everything up to and including `base` is compacted away; `base` becomes the dummy. */
export const F_COMPACT = 16;
/** The records do not all have the tag of the first one. */
export const F_MIXED = 32;
export const F_ALL = 63;

export const BASE_BYTES = 16;
export const STATE_BYTES = 24;
export const RECORDS_BYTES = 16;

export const RECORD_BYTES = 12;
export const R_DATA_BYTES = 0;
export const R_TAG_LOW = 4;
export const R_TAG_HIGH_KIND = 8;

export const BLOCK_BYTES = 16;
export const B_CHECK = 0;
export const B_RECORD_BYTES = 4;
export const B_FIRST = 8;
export const DIRECTORY_BYTES = 8;

/**
 * Record bytes up to which a body is left whole, and about which larger ones are cut into blocks. A cold read of a few
 * entries checks one block: at 16 KiB that costs less than the read itself, at 64 KiB several times as much.
 */
export const BLOCK_TARGET_BYTES = 16 * 1024;

export const LINK_BYTES = 80;
export const L_LOG_ID = 0;
export const L_PREV_GENERATION = 16;
export const L_PREV_END = 24;
export const L_PREV_SEQUENCE = 32;
export const L_PREV_FROM = 40;
export const L_BASE_INDEX = 48;
export const L_BASE_TAG = 56;
export const L_LAST_INDEX = 64;
export const L_CAPACITY = 72;

// STATE: two synced identity slots, then two watermark slots that the hot path writes and never syncs.
export const IDENTITY_SLOT_BYTES = 8192;
export const WATERMARK_SLOT_BYTES = 4096;
export const WATERMARK_AT = 2 * IDENTITY_SLOT_BYTES;
export const STATE_FILE_BYTES = 2 * IDENTITY_SLOT_BYTES + 2 * WATERMARK_SLOT_BYTES;

//   identity   crc u32 | magic u32 | version u32 | metadata bytes u32 | logId 16 B | serial u64 | newest generation u64 | metadata
export const IDENTITY_MAGIC = 0x44495453;
export const I_CRC = 0;
export const I_MAGIC = 4;
export const I_VERSION = 8;
export const I_METADATA_BYTES = 12;
export const I_LOG_ID = 16;
export const I_SERIAL = 32;
export const I_NEWEST = 40;
export const I_METADATA = 48;
export const MAX_METADATA_BYTES = 4096;

//   watermark  crc u32 | magic u32 | serial u64 | generation u64 | end u64 | sequence u64 | chain u32 | closed u32   (48 bytes)
export const WATERMARK_MAGIC = 0x4d575453;
export const WATERMARK_BYTES = 48;
export const W_CRC = 0;
export const W_MAGIC = 4;
export const W_SERIAL = 8;
export const W_GENERATION = 16;
export const W_END = 24;
export const W_SEQUENCE = 32;
export const W_CHAIN = 40;
export const W_CLOSED = 44;

// Index side file: header (64) | blocks {first - base u32, place u32} | runs {first - base u32, tag low u32, tag high u32}
//   header     crc u32 | magic u32 | version u32 | blocks u32 | runs u32 | chain u32 | logId u64 | generation u64 | end u64 | base u64 | sequence u64
export const INDEX_MAGIC = 0x58495453;
export const INDEX_HEADER_BYTES = 64;
export const X_CRC = 0;
export const X_MAGIC = 4;
export const X_VERSION = 8;
export const X_BLOCKS = 12;
export const X_RUNS = 16;
export const X_CHAIN = 20;
export const X_LOG_ID = 24;
export const X_GENERATION = 32;
export const X_END = 40;
export const X_BASE = 48;
export const X_SEQUENCE = 56;
export const INDEX_RUN_BYTES = 12;

/** The smallest segment, and the zeros that small groups begin one with. Later ones grow with the log, up to segmentBytes. */
export const FIRST_SEGMENT_BYTES = 256 * 1024;
export const MIN_SEGMENT_BYTES = 4096;
export const DEFAULT_SEGMENT_BYTES = 64 * 1024 * 1024;
export const MAX_SEGMENT_BYTES = 1024 * 1024 * 1024;
/** The largest save, frame and padding included. */
export const MAX_SAVE_BYTES = 1024 * 1024 * 1024;
/** The largest payload of one record. */
export const MAX_RECORD_BYTES = 64 * 1024 * 1024;
