/** wasi:cli, wasi:clocks and wasi:random 0.2, and a wasi:filesystem in which there is nothing. */

import { type ComponentHost, type ImportedInterfaces, integerOf, u64Of } from './host.ts';
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
  return { ...cliImports(host), ...clockImports(host), ...randomImports(host), ...FILESYSTEM };
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
      exitWithCode: (code: unknown) => host.exit(integerOf(host, code)),
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
  const at = (ms: number): Pollable => new Pollable(host, instant(host, ms));
  return {
    'wasi:clocks/monotonic-clock': {
      now: () => BigInt(host.ambient.monotonicMs()) * NS_PER_MS,
      resolution: () => NS_PER_MS,
      subscribeInstant: (when: bigint) => at(Number(when / NS_PER_MS)),
      subscribeDuration: (length: bigint) => at(host.ambient.monotonicMs() + Number(length / NS_PER_MS)),
    },
    'wasi:clocks/wall-clock': {
      now: () => {
        const ms = host.ambient.realtimeMs();
        return { seconds: BigInt(Math.floor(ms / 1000)), nanoseconds: (ms % 1000) * NS_PER_MS_NUMBER };
      },
      resolution: () => ({ seconds: 0n, nanoseconds: NS_PER_MS_NUMBER }),
    },
  };
}

/** On the guest's monotonic clock, which it looks at to know. A timer may fire a moment before. */
function instant(host: ComponentHost, ms: number): Occurrence {
  let hasFired = false;
  return {
    isThere: () => hasFired || host.ambient.monotonicMs() >= ms,
    whenThere: (call) => {
      const delayMs = Math.min(ms - host.ambient.monotonicMs(), MAX_SLEEP_MS);
      return host.startTimer(delayMs, () => {
        hasFired = true;
        call();
      });
    },
  };
}

function randomImports(host: ComponentHost): ImportedInterfaces {
  const bytes = (length: bigint): Uint8Array => {
    if (u64Of(host, length) > MAX_RANDOM_BYTES)
      host.trap(`${length} random bytes, and ${MAX_RANDOM_BYTES} are given at once`);
    return randomBytes(host, Number(length));
  };
  const randomU64 = (): bigint => new DataView(randomBytes(host, 8).buffer).getBigUint64(0);
  const randomSeed = (): [bigint, bigint] => [randomU64(), randomU64()];
  return {
    'wasi:random/random': { getRandomBytes: bytes, getRandomU64: randomU64 },
    'wasi:random/insecure': { getInsecureRandomBytes: bytes, getInsecureRandomU64: randomU64 },
    'wasi:random/insecure-seed': { insecureSeed: randomSeed, getInsecureSeed: randomSeed },
  };
}

const FILESYSTEM: ImportedInterfaces = {
  'wasi:filesystem/preopens': { getDirectories: () => [] },
  'wasi:filesystem/types': { Descriptor, DirectoryEntryStream, filesystemErrorCode: nothing },
};

function randomBytes(host: ComponentHost, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  host.ambient.fillRandom(bytes, 0, length);
  return bytes;
}

function nothing(): undefined {
  return undefined;
}
