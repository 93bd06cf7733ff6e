#!/usr/bin/env node
/** `postern`: the process around a command line, with its signals and its exit code. */

import { stopBundler } from '../runtime/javascript/bundle/index.ts';
import { runCommandLine } from './program.ts';
import { stopOnSignals } from './signals.ts';

const signal = stopOnSignals();
// A reader that went away (`postern logs | head`) is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await runCommandLine(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  env: process.env,
  signal,
});
await stopBundler();
