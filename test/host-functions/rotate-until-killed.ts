/** `node rotate-until-killed.ts <url> <key> <previous key> <writes>`: a rotation whose process dies like one that is killed. */

import { createSystemPool } from '../../database/index.ts';
import { SecretStore } from '../../host-functions/index.ts';

const [url, key, previous, writes] = process.argv.slice(2) as [string, string, string, string];
const pool = createSystemPool(url);
let left = Number(writes);
const dying = Object.assign(Object.create(pool), {
  query: (text: string, values: unknown[]) => {
    // In the middle of a write: it is sent, and nobody hears what became of it.
    const answer = pool.query(text, values);
    if (text.startsWith('update') && --left === 0) process.kill(process.pid, 'SIGKILL');
    return answer;
  },
});
await new SecretStore(dying, Buffer.from(key), Buffer.from(previous)).rotate();
