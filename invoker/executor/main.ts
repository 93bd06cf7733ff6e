/**
 * Entry of an executor process: file descriptor 3 is the pipe to the node, and the only way out. When the node goes, so
 * does this process. Signals that a terminal or a service manager sends to the whole group are for the node, which lets what
 * runs here finish.
 */

import { Socket } from 'node:net';
import { Connection } from '../protocol/connection.ts';
import { decodeToExecutor, type ExecutorInput, encodeFromExecutor, type FromExecutor } from '../protocol/messages.ts';
import { Executor } from './executor.ts';

const PIPE_FD = 3;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);

const executor = new Executor(
  (message) => connection.send(message),
  () => connection.backlogBytes,
);
const connection = new Connection<ExecutorInput, FromExecutor>(
  new Socket({ fd: PIPE_FD, readable: true, writable: true }),
  {
    encode: encodeFromExecutor,
    decode: decodeToExecutor,
    onMessage: (message) => executor.onMessage(message),
    onDrain: () => executor.onDrain(),
    onClose: () => process.exit(0),
  },
);
