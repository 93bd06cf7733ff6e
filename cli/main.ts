#!/usr/bin/env node
/** `postern`. Nothing is imported before it is known that this Node can read it: an older one would only show a stack. */

const OLDEST_MAJOR = 26;

if (Number.parseInt(process.versions.node, 10) >= OLDEST_MAJOR) {
  await import('./process.ts');
} else {
  process.stderr.write(`error: postern needs Node ${OLDEST_MAJOR} or newer, this is ${process.version}\n`);
  process.exitCode = 2;
}

export {};
