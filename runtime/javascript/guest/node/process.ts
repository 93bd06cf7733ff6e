/**
 * node:process, and the free identifier `process`. Says nothing of Node (`versions.node` is absent), so that packages
 * which look take their path for browsers and workers.
 */

type Env = Record<string, string | undefined>;

/** A variable that the function's configuration lists; `undefined` for all others, and at the top level of a module. */
function hostVariable(name: string): string | undefined {
  const { env: read } = globalThis as { env?: (name: string) => unknown };
  if (typeof read !== 'function') return undefined;
  try {
    return read(name) as string | undefined;
  } catch {
    return undefined;
  }
}

export const env: Env = new Proxy({ NODE_ENV: 'production' } as Env, {
  get: (own, name) => (typeof name === 'symbol' || Object.hasOwn(own, name) ? own[name as string] : hostVariable(name)),
  has: (own, name) => typeof name === 'string' && (Object.hasOwn(own, name) || hostVariable(name) !== undefined),
  set(own, name, value) {
    own[name as string] = String(value);
    return true;
  },
});

export const nextTick = (callback: (...args: unknown[]) => void, ...args: unknown[]): void =>
  queueMicrotask(() => callback(...args));
export const cwd = (): string => '/';
export const uptime = (): number => performance.now() / 1000;
export const hrtime = Object.assign(
  ([seconds, nanoseconds]: [number, number] = [0, 0]): [number, number] => {
    const now = Math.round(performance.now() * 1e6) - (seconds * 1e9 + nanoseconds);
    return [Math.floor(now / 1e9), ((now % 1e9) + 1e9) % 1e9];
  },
  { bigint: (): bigint => BigInt(Math.round(performance.now() * 1e6)) },
);
export const memoryUsage = Object.assign(() => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }), {
  rss: () => 0,
});
export function exit(code = 0): never {
  throw new Error(`process.exit(${code}) was called; a function ends by returning`);
}
export const emitWarning = (warning: unknown): void =>
  console.warn(`Warning: ${warning instanceof Error ? warning.message : String(warning)}`);

export const platform = 'linux';
export const arch = 'wasm32';
export const version = '';
export const versions: Record<string, string> = {};
export const release: Record<string, string> = {};
export const argv: string[] = [];
export const argv0 = 'postern';
export const execArgv: string[] = [];
export const execPath = '';
export const title = 'postern';
export const pid = 1;
export const ppid = 0;
export const features: Record<string, boolean> = {};
const stream = (level: 'log' | 'error'): object => ({
  isTTY: false,
  columns: 80,
  write(text: unknown): boolean {
    console[level](String(text).replace(/\n$/, ''));
    return true;
  },
});
export const stdout = stream('log');
export const stderr = stream('error');
export const stdin = { isTTY: false };

/** Events of a process never happen here. */
function ignore(this: unknown): unknown {
  return this;
}
export const on = ignore;
export const once = ignore;
export const off = ignore;
export const addListener = ignore;
export const removeListener = ignore;
export const removeAllListeners = ignore;
export const emit = (): boolean => false;
export const listeners = (): unknown[] => [];
export const listenerCount = (): number => 0;

const process = {
  env,
  nextTick,
  cwd,
  uptime,
  hrtime,
  memoryUsage,
  exit,
  emitWarning,
  platform,
  arch,
  version,
  versions,
  release,
  argv,
  argv0,
  execArgv,
  execPath,
  title,
  pid,
  ppid,
  features,
  stdout,
  stderr,
  stdin,
  on,
  once,
  off,
  addListener,
  removeListener,
  removeAllListeners,
  emit,
  listeners,
  listenerCount,
};
export default process;
