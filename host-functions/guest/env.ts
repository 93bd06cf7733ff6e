import { assertInvoking } from '../../runtime/javascript/guest/host.ts';
import { hasOwn } from './primordials.ts';

/** The part of an invocation's meta that holds its variables. */
export interface EnvMeta {
  readonly env: Readonly<Record<string, string>>;
}

export interface EnvFace {
  readonly env: (name: string) => string | undefined;
  /** Called at the start of each invocation; the meta is parsed only when someone asks for a variable. */
  readonly setMeta: (meta: () => EnvMeta) => void;
}

export function createEnv(): EnvFace {
  let read: () => EnvMeta = () => ({ env: {} });
  return {
    env(name) {
      assertInvoking('env');
      if (typeof name !== 'string') return undefined;
      const values = read().env;
      const value = hasOwn(values, name) ? values[name] : undefined;
      return typeof value === 'string' ? value : undefined;
    },
    setMeta(meta) {
      read = meta;
    },
  };
}
