/** wasi:cli, wasi:clocks and wasi:random 0.2, and a wasi:filesystem in which there is nothing. */

import { fillRandom } from '../../random-pool.ts';
import type { ComponentHost, ImportedInterfaces } from './host.ts';
import { InputStream, type Occurrence, OutputStream, Pollable } from './io.ts';

const NS_PER_MS = 1_000_000n;
const NS_PER_MS_NUMBER = 1_000_000;
const MAX_RANDOM_BYTES = 1024 * 1024;
const MAX_SLEEP_MS = 2 ** 31 - 1;

class TerminalInput {}
class TerminalOutput {}
/** Nobody ever has one: there are no directories to begin with. */
class Descriptor {}
class DirectoryEntryStream {}

export function systemImports(host: ComponentHost): ImportedInterfaces {
  return { ...cliImports(host), ...clockImports(host), ...RANDOM, ...FILESYSTEM };
}

function cliImports(host: ComponentHost): ImportedInterfaces {
  return {
    'wasi:cli/environment': {
      getEnvironment: () => host.environ,
      getArguments: () => host.args,
      initialCwd: () => undefined,
    },
    'wasi:cli/exit': {
      exit: (status: { tag: string }) => host.exit(status.tag === 'err' ? 1 : 0),
      exitWithCode: (code: number) => host.exit(code),
    },
    'wasi:cli/stdin': { getStdin: () => new InputStream(host, host.stdin) },
    'wasi:cli/stdout': { getStdout: () => new OutputStream(host, (bytes) => host.onStdout(bytes)) },
    'wasi:cli/stderr': { getStderr: () => new OutputStream(host, (bytes) => host.onStderr(bytes)) },
    'wasi:cli/terminal-input': { TerminalInput },
    'wasi:cli/terminal-output': { TerminalOutput },
    'wasi:cli/terminal-stdin': { getTerminalStdin: nothing },
    'wasi:cli/terminal-stdout': { getTerminalStdout: nothing },
    'wasi:cli/terminal-stderr': { getTerminalStderr: nothing },
  };
}

function clockImports(host: ComponentHost): ImportedInterfaces {
  const at = (ms: number): Pollable => new Pollable(host, instant(ms));
  return {
    'wasi:clocks/monotonic-clock': {
      now: () => BigInt(Math.floor(performance.now())) * NS_PER_MS,
      resolution: () => NS_PER_MS,
      subscribeInstant: (when: bigint) => at(Number(when / NS_PER_MS)),
      subscribeDuration: (length: bigint) => at(performance.now() + Number(length / NS_PER_MS)),
    },
    'wasi:clocks/wall-clock': {
      now: () => {
        const ms = Date.now();
        return { seconds: BigInt(Math.floor(ms / 1000)), nanoseconds: (ms % 1000) * NS_PER_MS_NUMBER };
      },
      resolution: () => ({ seconds: 0n, nanoseconds: NS_PER_MS_NUMBER }),
    },
  };
}

/** On `performance.now()`'s scale. */
function instant(ms: number): Occurrence {
  return {
    isThere: () => performance.now() >= ms,
    whenThere: (call) => {
      const timer = setTimeout(call, Math.min(Math.ceil(ms - performance.now()), MAX_SLEEP_MS));
      return () => clearTimeout(timer);
    },
  };
}

const RANDOM: ImportedInterfaces = {
  'wasi:random/random': { getRandomBytes: randomBytes, getRandomU64: randomU64 },
  'wasi:random/insecure': { getInsecureRandomBytes: randomBytes, getInsecureRandomU64: randomU64 },
  'wasi:random/insecure-seed': {
    insecureSeed: () => [randomU64(), randomU64()],
    getInsecureSeed: () => [randomU64(), randomU64()],
  },
};

const FILESYSTEM: ImportedInterfaces = {
  'wasi:filesystem/preopens': { getDirectories: () => [] },
  'wasi:filesystem/types': { Descriptor, DirectoryEntryStream, filesystemErrorCode: nothing },
};

function randomBytes(length: bigint): Uint8Array {
  if (length > MAX_RANDOM_BYTES)
    throw new RangeError(`${length} random bytes, and ${MAX_RANDOM_BYTES} are given at once`);
  const bytes = new Uint8Array(Number(length));
  fillRandom(bytes, 0, bytes.length);
  return bytes;
}

function randomU64(): bigint {
  return new DataView(randomBytes(8n).buffer).getBigUint64(0);
}

function nothing(): undefined {
  return undefined;
}
