import { bytesOf, type ComponentHost, textOf } from './host.ts';
import { KEPT_BYTES } from './io.ts';

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const INVALID = Object.freeze({ tag: 'invalid-syntax' });
const IMMUTABLE = Object.freeze({ tag: 'immutable' });

export interface Fields {
  entries(): [string, Uint8Array][];
}

/** Names in lower case, values as Latin-1 text. */
export function pairsOf(fields: Fields): [string, string][] {
  return fields.entries().map(([name, value]) => [name.toLowerCase(), Buffer.from(value).toString('latin1')]);
}

export interface FieldsClass {
  new (): Fields;
  /** What the guest may not change. */
  frozen(pairs: readonly (readonly [string, string])[]): Fields;
}

/** The class of one invocation, since the guest may make as many as it likes. */
export function fieldsClass(host: ComponentHost): FieldsClass {
  return class Fields {
    #entries: [string, Uint8Array][] = [];
    #isFrozen = false;

    constructor() {
      host.keep(KEPT_BYTES);
    }

    static frozen(pairs: readonly (readonly [string, string])[]): Fields {
      const fields = new Fields();
      fields.#entries = pairs.map(([name, value]) => [name, Buffer.from(value, 'latin1')]);
      fields.#isFrozen = true;
      return fields;
    }

    static fromList(entries: readonly (readonly [string, Uint8Array])[]): Fields {
      const fields = new Fields();
      for (const [name, value] of entries) fields.append(name, value);
      return fields;
    }

    get(name: string): Uint8Array[] {
      return this.#entries.filter(([known]) => isSame(known, name)).map(([, value]) => value);
    }

    has(name: string): boolean {
      return this.#entries.some(([known]) => isSame(known, name));
    }

    set(name: string, values: readonly Uint8Array[]): void {
      this.delete(name);
      for (const value of values) this.append(name, value);
    }

    delete(name: string): void {
      if (this.#isFrozen) throw IMMUTABLE;
      this.#entries = this.#entries.filter(([known]) => !isSame(known, name));
    }

    append(name: string, value: Uint8Array): void {
      if (this.#isFrozen) throw IMMUTABLE;
      if (!TOKEN.test(textOf(host, name))) throw INVALID;
      host.keep(KEPT_BYTES + name.length + bytesOf(host, value).length);
      this.#entries.push([name, Uint8Array.from(value)]);
    }

    entries(): [string, Uint8Array][] {
      return [...this.#entries];
    }

    clone(): Fields {
      return Fields.fromList(this.#entries);
    }
  };
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
