import { readFileSync } from 'node:fs';

/** In `package.json`, one level up from the sources and two from `dist/cli`. */
export function packageVersion(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // The other one.
    }
  }
  return 'unknown';
}
