/**
 * What code that has escaped a sandbox would try, in a process started as an executor is. Writes on file descriptor 3
 * what each attempt came to, as JSON: `done`, or the code of the error.
 */

import { execFileSync, fork, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import {
  cpSync,
  linkSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { get } from 'node:http';
import { open as openInspector } from 'node:inspector';
import { connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { writeHeapSnapshot } from 'node:v8';
import { WASI } from 'node:wasi';
import { Worker } from 'node:worker_threads';

const here = fileURLToPath(import.meta.url);
const packageFile = (name: string): string => fileURLToPath(new URL(`../../../${name}`, import.meta.url));
const port = Number(process.argv[2]);
/** A directory that is there, and in which nothing may come to be. */
const outside = process.argv[3] as string;

function settled(
  emitter: { once(event: string, listener: (value?: unknown) => void): unknown },
  good: string,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    emitter.once(good, resolve);
    emitter.once('error', (error) => reject(error as Error));
    emitter.once('exit', (code) => reject(new Error(`exit ${String(code)}`)));
  });
}

const ATTEMPTS: Readonly<Record<string, () => unknown>> = {
  'read /etc/passwd': () => readFileSync('/etc/passwd'),
  'list /': () => readdirSync('/'),
  'stat /root': () => statSync('/root'),
  'read its own environment': () => readFileSync('/proc/self/environ'),
  "read the node's environment": () => readFileSync(`/proc/${process.ppid}/environ`),
  "open the node's memory": () => openSync(`/proc/${process.ppid}/mem`, 'r+'),
  "list the node's files": () => readdirSync(`/proc/${process.ppid}/fd`),
  'read through a relative path': () => readFileSync(packageFile('../../etc/passwd')),
  'read through the root of a process': () => readFileSync('/proc/self/root/etc/passwd'),
  'write to /tmp': () => writeFileSync(`${outside}/file`, 'x'),
  'make a directory': () => mkdtempSync(`${outside}/directory-`),
  'write into the package': () => writeFileSync(packageFile('break-out'), 'x'),
  'change its own code': () => writeFileSync(here, ''),
  'delete its own code': () => unlinkSync(here),
  'link a file into the package': () => linkSync('/etc/passwd', packageFile('break-out')),
  'symlink a file into the package': () => symlinkSync('/etc/passwd', packageFile('break-out')),
  'copy a directory': () => cpSync('/etc', `${outside}/etc`, { recursive: true }),
  'run a program': () => execFileSync('/bin/true'),
  'start a program': () => settled(spawn('/bin/true'), 'spawn'),
  'fork itself': () => settled(fork(here), 'spawn'),
  'start a worker thread': () => settled(new Worker('0', { eval: true }), 'online'),
  'connect to a port of the machine': () => settled(connect(port, '127.0.0.1'), 'connect'),
  'connect to a socket in the file system': () => settled(connect('/var/run/docker.sock'), 'connect'),
  'ask by HTTP': () => settled(get(`http://127.0.0.1:${port}/`), 'response'),
  fetch: () => fetch(`http://127.0.0.1:${port}/`),
  'resolve a name': () => lookup('localhost'),
  listen: () => settled(createServer().listen(0), 'listening'),
  'send a datagram': () => {
    const socket = createSocket('udp4');
    socket.send('x', port, '127.0.0.1', (error) => socket.emit(error === null ? 'sent' : 'error', error));
    return settled(socket, 'sent').finally(() => socket.on('error', () => {}));
  },
  'open the inspector': () => openInspector(0),
  'load a native addon': () => process.dlopen({ exports: {} }, '/lib/x86_64-linux-gnu/libc.so.6'),
  'open a directory for WASI': () => new WASI({ version: 'preview1', preopens: { '/': '/' } }),
  // Not covered by the permission model.
  'open a database file': async () => new (await import('node:sqlite')).DatabaseSync(`${outside}/a.db`),
  'write a heap snapshot': () => writeHeapSnapshot(`${outside}/a.heapsnapshot`),
  'write a report': () => {
    if (process.report.writeReport(`${outside}/report.json`) === '')
      throw Object.assign(new Error('not written'), { code: 'EMPTY' });
  },
  'import a file from outside': () => import('/etc/passwd' as string),
  'load an environment file': () => process.loadEnvFile('/proc/self/environ'),
  'use the raw bindings': () => (process as unknown as { binding(name: string): unknown }).binding('spawn_sync'),
};

async function main(): Promise<void> {
  const outcomes: Record<string, string> = {};
  for (const [name, attempt] of Object.entries(ATTEMPTS)) {
    try {
      await attempt();
      outcomes[name] = 'done';
    } catch (error) {
      outcomes[name] = String((error as { code?: unknown }).code ?? error);
    }
  }
  writeSync(3, JSON.stringify({ env: process.env, argv: process.argv.slice(2), outcomes }));
  process.exit(0);
}
void main();
