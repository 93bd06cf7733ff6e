import type { ByteReader } from './byte-reader.ts';
import { ModuleRefusedError } from './errors.ts';

export type ValueType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128' | 'funcref' | 'externref' | 'exnref';
export type ExternalKind = 'function' | 'table' | 'memory' | 'global' | 'tag';

export const EXTERNAL_KINDS = ['function', 'table', 'memory', 'global', 'tag'] as const satisfies ExternalKind[];

export interface Limits {
  readonly min: number;
  readonly max: number | undefined;
}

const VALUE_TYPES: Readonly<Record<number, ValueType>> = {
  127: 'i32',
  126: 'i64',
  125: 'f32',
  124: 'f64',
  123: 'v128',
  112: 'funcref',
  111: 'externref',
  105: 'exnref',
};

export function readValueType(reader: ByteReader): ValueType {
  const byte = reader.u8();
  const type = VALUE_TYPES[byte];
  if (type !== undefined) return type;
  if (byte === 0x63 || byte === 0x64) throw new ModuleRefusedError('function references', 'a typed reference');
  if (byte >= 0x6a && byte <= 0x74) throw new ModuleRefusedError('gc types', `reference type 0x${byte.toString(16)}`);
  if (byte === 0x68 || byte === 0x75) throw new ModuleRefusedError('stack switching');
  throw new ModuleRefusedError('unknown type', `0x${byte.toString(16)}`);
}

/** A heap type, the immediate of ref.null. */
export function readHeapType(reader: ByteReader): void {
  const byte = reader.u8();
  if (byte === 0x70 || byte === 0x6f || byte === 0x69 || byte === 0x72 || byte === 0x73 || byte === 0x74) return;
  if (byte >= 0x6a && byte <= 0x71) throw new ModuleRefusedError('gc types', `heap type 0x${byte.toString(16)}`);
  throw new ModuleRefusedError('function references', 'a typed null');
}

/** A block's type: none, a value type, or an index into the types (s33). */
export function readBlockType(reader: ByteReader): void {
  const byte = reader.peek();
  if (byte === 0x40) reader.skip(1);
  else if (byte >= 0x80 || byte < 0x40) reader.skipInteger();
  else readValueType(reader);
}

export function readLimits(reader: ByteReader, of: 'memory' | 'table'): Limits {
  const flags = reader.u8();
  if ((flags & 0b0010) !== 0) throw new ModuleRefusedError(`shared ${of}`);
  if ((flags & 0b0100) !== 0) throw new ModuleRefusedError(`${of}64`);
  if ((flags & 0b1000) !== 0) throw new ModuleRefusedError('custom page sizes');
  if (flags > 1) throw new ModuleRefusedError('unknown limits', `flags 0x${flags.toString(16)}`);
  const min = reader.u32();
  return { min, max: flags === 1 ? reader.u32() : undefined };
}

export function readGlobalType(reader: ByteReader): { type: ValueType; mutable: boolean } {
  const type = readValueType(reader);
  const mutability = reader.u8();
  if (mutability > 1) throw new ModuleRefusedError('shared memory', 'a shared global');
  return { type, mutable: mutability === 1 };
}
