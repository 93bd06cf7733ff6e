/**
 * A component as it is stored: what it is, a length, a JSON header, then the glue and the core modules one after the other.
 * The same upload gives the same bytes.
 */

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
  /** Of the memory that it defines; 0 without one. */
  readonly minPages: number;
}

export interface StoredComponent {
  readonly world: ComponentWorld;
  /** The name of the exported interface, as the glue has it; of a `handler`, its own. */
  readonly entry: string;
  /** Metered. */
  readonly glue: string;
  readonly modules: readonly StoredModule[];
}

interface Header {
  readonly format: typeof FORMAT;
  readonly world: ComponentWorld;
  readonly entry: string;
  readonly glueBytes: number;
  readonly modules: readonly (Omit<StoredModule, 'bytes'> & { readonly length: number })[];
}

const FORMAT = 2;
const LENGTH_BYTES = 4;
const MAGIC = Buffer.from('PSTNCMP1');

export function isStoredComponent(stored: Uint8Array): boolean {
  return MAGIC.equals(stored.subarray(0, MAGIC.length));
}

export function packComponent({ world, entry, glue, modules }: StoredComponent): Uint8Array {
  const glueBytes = Buffer.from(glue);
  const header: Header = {
    format: FORMAT,
    world,
    entry,
    glueBytes: glueBytes.length,
    modules: modules.map(({ bytes, ...rest }) => ({ ...rest, length: bytes.length })),
  };
  const headerBytes = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(headerBytes.length);
  return Buffer.concat([MAGIC, length, headerBytes, glueBytes, ...modules.map(({ bytes }) => bytes)]);
}

/** Throws where the bytes are no component of this format. */
export function unpackComponent(bytes: Uint8Array): StoredComponent {
  if (!isStoredComponent(bytes)) throw new Error('no stored component');
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).subarray(MAGIC.length);
  let at = LENGTH_BYTES + buffer.readUInt32LE(0);
  const header = JSON.parse(buffer.toString('utf8', LENGTH_BYTES, at)) as Header;
  if (header.format !== FORMAT) throw new Error(`a stored component of format ${header.format}, not ${FORMAT}`);
  const take = (length: number): Buffer => {
    at += length;
    return buffer.subarray(at - length, at);
  };
  const glue = take(header.glueBytes).toString();
  const modules = header.modules.map(({ length, ...rest }) => ({ ...rest, bytes: take(length) }));
  if (at !== buffer.length) throw new Error('a stored component is cut or too long');
  return { world: header.world, entry: header.entry, glue, modules };
}
