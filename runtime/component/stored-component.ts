/**
 * A component as it is stored: what it is, a length, a JSON header, then the glue and the core modules one after the other.
 * The same upload gives the same bytes.
 */

import type { OwnMemory } from './guest-memory.ts';

/** What the component's one entry is. */
export type ComponentWorld = 'handler' | 'http' | 'command';

/**
 * Units for a start function, before a meter is attached; each of a component's modules may have one. They run in one piece,
 * so they get a fifth of what a module of its own gets.
 */
export const START_FUEL = 20_000_000;

export interface StoredModule {
  /** As the glue asks for it. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Not where nothing in it could take long. */
  readonly isMetered: boolean;
  /** Of the memory that it came with; 0 without one. */
  readonly minPages: number;
  /** What an instance's tables may hold. */
  readonly tableBytes: number;
  /** That memory, where it was taken out of the module. */
  readonly memory?: OwnMemory | undefined;
}

export interface StoredComponent {
  readonly world: ComponentWorld;
  /** The name of the exported interface, as the glue has it; of a `handler`, its own. */
  readonly entry: string;
  /** It takes part in the asynchronous ABI, whatever its core modules call that. */
  readonly isAsynchronous: boolean;
  /** Metered. */
  readonly glue: string;
  readonly modules: readonly StoredModule[];
}

interface Header {
  readonly format: number;
  readonly world: ComponentWorld;
  readonly entry: string;
  readonly isAsynchronous?: true;
  readonly glueBytes: number;
  readonly modules: readonly StoredModuleHeader[];
}
interface StoredModuleHeader extends Omit<StoredModule, 'bytes' | 'memory' | 'tableBytes'> {
  readonly length: number;
  /** There was none before it was counted. */
  readonly tableBytes?: number;
  readonly memory?: { readonly maxPages: number; readonly length: number };
}

const FORMAT = 3;
/** The one before took no memories out of their modules. */
const OLDEST_FORMAT = 2;
const LENGTH_BYTES = 4;
const MAGIC = Buffer.from('PSTNCMP1');

export function isStoredComponent(stored: Uint8Array): boolean {
  return MAGIC.equals(stored.subarray(0, MAGIC.length));
}

export function packComponent({ world, entry, isAsynchronous, glue, modules }: StoredComponent): Uint8Array {
  const glueBytes = Buffer.from(glue);
  const header: Header = {
    format: FORMAT,
    world,
    entry,
    ...(isAsynchronous ? { isAsynchronous } : {}),
    glueBytes: glueBytes.length,
    modules: modules.map(headerOf),
  };
  const headerBytes = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(headerBytes.length);
  return Buffer.concat([MAGIC, length, headerBytes, glueBytes, ...modules.flatMap(contentOf)]);
}

function headerOf({ bytes, memory, ...rest }: StoredModule): StoredModuleHeader {
  const header = { ...rest, length: bytes.length };
  return memory === undefined
    ? header
    : { ...header, memory: { maxPages: memory.maxPages, length: memory.data.length } };
}

function contentOf({ bytes, memory }: StoredModule): Uint8Array[] {
  return memory === undefined ? [bytes] : [bytes, memory.data];
}

/** Throws where the bytes are no component of this format. */
export function unpackComponent(bytes: Uint8Array): StoredComponent {
  if (!isStoredComponent(bytes)) throw new Error('no stored component');
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).subarray(MAGIC.length);
  let at = LENGTH_BYTES + buffer.readUInt32LE(0);
  const header = JSON.parse(buffer.toString('utf8', LENGTH_BYTES, at)) as Header;
  if (!(header.format >= OLDEST_FORMAT && header.format <= FORMAT))
    throw new Error(`a stored component of format ${header.format}, not ${OLDEST_FORMAT} to ${FORMAT}`);
  const take = (length: number): Buffer => {
    at += length;
    return buffer.subarray(at - length, at);
  };
  const glue = take(header.glueBytes).toString();
  const modules = header.modules.map(({ length, memory, tableBytes = 0, ...rest }) => {
    const module = { ...rest, tableBytes, bytes: take(length) };
    if (memory === undefined) return module;
    return { ...module, memory: { minPages: rest.minPages, maxPages: memory.maxPages, data: take(memory.length) } };
  });
  if (at !== buffer.length) throw new Error('a stored component is cut or too long');
  const { world, entry } = header;
  return { world, entry, isAsynchronous: header.isAsynchronous === true, glue, modules };
}
