import { assertInvoking } from '../host.ts';
import { part } from './parts.ts';

const apply = Reflect.apply;
const MAX_RANDOM_BYTES = 65_536;
const INTEGERS = /^(?:Big)?(?:Int|Uint)(?:8|8Clamped|16|32|64)Array$/;

class QuotaExceededError extends DOMException {
  constructor(message: string) {
    super(message, 'QuotaExceededError');
  }
}

/**
 * Random numbers come from the host's generator at each call (the native module keeps no generator of its own), so that
 * sandboxes restored from one image differ. What is made at the top level would be in the image, hence in all of them.
 */
export function installCrypto(): void {
  const prototype = Object.getPrototypeOf(crypto) as Crypto;
  const { getRandomValues, randomUUID } = prototype;
  const tag = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)
    ?.get as () => string;
  const methods = {
    getRandomValues<T extends ArrayBufferView>(this: Crypto, array: T): T {
      assertInvoking('crypto.getRandomValues');
      if (!INTEGERS.test(apply(tag, array, []) ?? '')) {
        throw new DOMException('The data argument must be an integer-type TypedArray', 'TypeMismatchError');
      }
      if (array.byteLength > MAX_RANDOM_BYTES) {
        throw new QuotaExceededError(`crypto.getRandomValues gives at most ${MAX_RANDOM_BYTES} bytes at a time`);
      }
      return apply(getRandomValues, this, [array]) as T;
    },
    randomUUID(this: Crypto): string {
      assertInvoking('crypto.randomUUID');
      return apply(randomUUID, crypto, []);
    },
  };
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(prototype, name, { value, writable: true, enumerable: true, configurable: true });
  }
  installSubtle();
}

type Subtle = Record<string, (...args: unknown[]) => Promise<unknown>>;

/** Every method goes through the part that makes the native module's answers those of the standard. */
function installSubtle(): void {
  const prototype = SubtleCrypto.prototype as unknown as Subtle;
  const native: Subtle = {};
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name === 'constructor') continue;
    native[name] = prototype[name] as Subtle[string];
    const method = {
      async [name](...args: unknown[]): Promise<unknown> {
        if (name === 'generateKey') assertInvoking('crypto.subtle.generateKey');
        return part('subtle')(native, name, args);
      },
    }[name];
    Object.defineProperty(prototype, name, { value: method, writable: true, enumerable: true, configurable: true });
  }
}
