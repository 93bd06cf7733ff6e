/** Starts a node as `dev` and `serve` run it. */

import pino, { type Logger } from 'pino';
import { type LogOutput, StreamLogOutput } from '../host-functions/index.ts';
import { bundle, stopBundler } from '../runtime/javascript/bundle/index.ts';
import { createDatabaseTriggers } from './database-triggers.ts';
import { type RunningPostern, startNode } from './node.ts';
import { type StartOptions, shareOfExecutors } from './options.ts';
import { type Membership, ProcessGroup } from './processes/index.ts';

export interface StartExtras {
  /** What is being done, a line each. */
  readonly progress?: (message: string) => void;
  /** The operator's log; JSON lines on standard error where absent, from `logLevel` up. */
  readonly log?: Logger;
  /** Where functions' lines go; standard output where absent. */
  readonly logOutput?: LogOutput;
  /** Where this is one of several nodes behind one port. */
  readonly membership?: Membership;
  /** Where `POSTERN_VAR_*` are read; this process's where absent. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** `options.processes` nodes behind one port, each a process of its own that runs the command line of this one. */
export function createProcessGroup(options: StartOptions): ProcessGroup {
  // What is wrong with it, before anything is started.
  shareOfExecutors(options);
  return new ProcessGroup({ count: options.processes ?? 1, log: operatorLog(options) });
}

function operatorLog({ logLevel }: StartOptions): Logger {
  return pino({ level: logLevel ?? 'warn' }, new StreamLogOutput(process.stderr));
}

/** Resolves when requests are answered. Rejects with StartError where the operator can mend it; nothing is left running then. */
export function startPostern(options: StartOptions, extras: StartExtras = {}): Promise<RunningPostern> {
  const environment = extras.environment ?? process.env;
  return startNode(options, {
    log: extras.log ?? operatorLog(options),
    logOutput: extras.logOutput ?? new StreamLogOutput(),
    bundler: { bundle, stop: stopBundler },
    databaseTriggers: createDatabaseTriggers,
    environment,
    ...(extras.membership === undefined ? {} : { membership: extras.membership }),
    ...(extras.progress === undefined ? {} : { progress: extras.progress }),
  });
}
