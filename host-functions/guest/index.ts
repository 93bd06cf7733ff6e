/**
 * The JavaScript faces of the host functions, bundled into the guest's prelude. Everything here runs inside the sandbox:
 * a convenience for the function's author, never a check that the host relies on.
 */

import { createDb, type Db } from './db.ts';
import { createEnv, type EnvFace } from './env.ts';
import { createHttp, type HttpFace, httpFetch } from './http.ts';
import { createLog, type LogFace, logMessage } from './log.ts';

export type { Db, Transaction } from './db.ts';
export type { EnvMeta } from './env.ts';
export type { HttpFace, HttpRequest, HttpResponse } from './http.ts';
export type { Level, LogFace } from './log.ts';
export type { Field, Row, Rows } from './rows.ts';

export interface HostFaces {
  readonly db: Db;
  readonly log: LogFace;
  readonly env: EnvFace['env'];
  readonly http: HttpFace;
  /** For the web globals' `fetch`. */
  readonly httpFetch: typeof httpFetch;
  /** For the web globals' `console`. */
  readonly logMessage: typeof logMessage;
  readonly setMeta: EnvFace['setMeta'];
}

/** Called once, while the prelude is evaluated. */
export function createHostFaces(): HostFaces {
  const { env, setMeta } = createEnv();
  return { db: createDb(), log: createLog(), env, http: createHttp(), httpFetch, logMessage, setMeta };
}
