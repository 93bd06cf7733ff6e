import { MAX_META_BYTES } from '../../javascript/host-door.ts';
import { bytesOf, type ComponentHost, textOf } from './host.ts';
import { KEPT_BYTES } from './io.ts';

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const INVALID = Object.freeze({ tag: 'invalid-syntax' });
const IMMUTABLE = Object.freeze({ tag: 'immutable' });

export interface Fields {
  entries(): [string, Uint8Array][];
}

export interface FieldsClass {
  new (): Fields;
  /** What the guest may not change. */
  frozen(pairs: readonly (readonly [string, string])[]): Fields;
  /** The same ones, for a guest that may not change them: however often it asks, they are there once. */
  view(fields: Fields): Fields;
  /** Names in lower case, values as Latin-1 text; undefined where they are more than a message may have. */
  pairsOf(fields: Fields): [string, string][] | undefined;
}

interface Entry {
  /** The name in lower case, by which it is found: names may be megabytes, and there may be many. */
  readonly key: string;
  readonly name: string;
  readonly value: Uint8Array;
}

/** The class of one invocation, since the guest may make as many as it likes. */
export function fieldsClass(host: ComponentHost): FieldsClass {
  return class Fields {
    #entries: Entry[] = [];
    #isFrozen = false;

    constructor() {
      host.keep(KEPT_BYTES);
    }

    static frozen(pairs: readonly (readonly [string, string])[]): Fields {
      const fields = new Fields();
      fields.#entries = pairs.map(([name, value]) => entry(name, Buffer.from(value, 'latin1')));
      fields.#isFrozen = true;
      return fields;
    }

    static view(of: Fields): Fields {
      const fields = new Fields();
      fields.#entries = of.#entries;
      fields.#isFrozen = true;
      return fields;
    }

    static pairsOf(fields: Fields): [string, string][] | undefined {
      const bytes = fields.#entries.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
      if (bytes > MAX_META_BYTES) return undefined;
      return fields.#entries.map(({ key, value }) => [key, Buffer.from(value).toString('latin1')]);
    }

    static fromList(entries: readonly (readonly [string, Uint8Array])[]): Fields {
      const fields = new Fields();
      for (const [name, value] of entries) fields.append(name, value);
      return fields;
    }

    get(name: string): Uint8Array[] {
      const wanted = textOf(host, name).toLowerCase();
      return this.#entries.filter(({ key }) => key === wanted).map(({ value }) => value);
    }

    has(name: string): boolean {
      const wanted = textOf(host, name).toLowerCase();
      return this.#entries.some(({ key }) => key === wanted);
    }

    set(name: string, values: readonly Uint8Array[]): void {
      this.delete(name);
      for (const value of values) this.append(name, value);
    }

    delete(name: string): void {
      if (this.#isFrozen) throw IMMUTABLE;
      const unwanted = textOf(host, name).toLowerCase();
      this.#entries = this.#entries.filter(({ key }) => key !== unwanted);
    }

    append(name: string, value: Uint8Array): void {
      if (this.#isFrozen) throw IMMUTABLE;
      if (!TOKEN.test(textOf(host, name))) throw INVALID;
      host.keep(KEPT_BYTES + 2 * name.length + bytesOf(host, value).length);
      this.#entries.push(entry(name, Uint8Array.from(value)));
    }

    entries(): [string, Uint8Array][] {
      return this.#entries.map(({ name, value }) => [name, value]);
    }

    clone(): Fields {
      const fields = new Fields();
      for (const { name, value } of this.#entries) fields.append(name, value);
      return fields;
    }
  };
}

function entry(name: string, value: Uint8Array): Entry {
  return { key: name.toLowerCase(), name, value };
}
