/** The Postgres under test: an embedded one that can be crashed in the ways that real ones crash. */

import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../database/index.ts';

/** A commit that was acknowledged must survive a crash of the server; the machine does not crash, so no fsync. */
const SETTINGS = { fsync: 'off', full_page_writes: 'off', synchronous_commit: 'on', autovacuum_naptime: '10s' };

export class ChaosPostgres {
  readonly #dataDir: string;
  #server: EmbeddedPostgres;

  private constructor(dataDir: string, server: EmbeddedPostgres) {
    this.#dataDir = dataDir;
    this.#server = server;
  }

  static async start(dataDir: string): Promise<ChaosPostgres> {
    await mkdir(dataDir, { recursive: true });
    await chmod(dataDir, 0o755);
    return new ChaosPostgres(dataDir, await startEmbeddedPostgres({ dataDir, settings: SETTINGS }));
  }

  get url(): string {
    return this.#server.url;
  }

  /** As `pg_ctl restart -m immediate`: every session dies in the middle of what it does, and the log is replayed. */
  async restartImmediately(): Promise<void> {
    const [pid] = (await readFile(join(this.#dataDir, 'postgres', 'data', 'postmaster.pid'), 'utf8')).split('\n');
    const port = Number(new URL(this.url).port);
    process.kill(Number(pid), 'SIGQUIT');
    await this.#server.exited;
    await this.#server.stop();
    this.#server = await startEmbeddedPostgres({ dataDir: this.#dataDir, port, settings: SETTINGS });
  }

  stop(): Promise<void> {
    return this.#server.stop();
  }
}
