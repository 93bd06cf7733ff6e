/** The process around a command line, with its signals and its exit code. */

import { stopBundler } from '../runtime/javascript/bundle/index.ts';
import { runCommandLine } from './program.ts';
import { stopOnSignals } from './signals.ts';

/** What a reader of a node's log has for its last lines. */
const LAST_LINES_MS = 2_000;

const signal = stopOnSignals();
const [command] = process.argv.slice(2);
// A reader that went away (`postern logs | head`) is no failure of ours. A node goes on when nobody reads its log (LOG-03).
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (command !== 'serve') process.exit(error.code === 'EPIPE' ? 0 : 1);
});

process.exitCode = await runCommandLine(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  env: process.env,
  signal,
});
await stopBundler();
// Lines that wait for a reader keep the process; a node that has stopped does not wait for one that stopped reading.
if (command === 'serve') setTimeout(() => process.exit(), LAST_LINES_MS).unref();
