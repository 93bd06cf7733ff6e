/** What a caller says of the session that a run is to be in. */

import { z } from 'zod';

const MAX_RUN = 2 ** 31 - 1;
const TOKEN_TEXT = 'a session token';
const token = z.string({ error: TOKEN_TEXT }).min(1, { error: TOKEN_TEXT }).max(100, { error: TOKEN_TEXT });
const run = z.int().min(1).max(MAX_RUN);

const REQUEST_TEXT = '"new", a token, {"fork": token, "run": number?} or {"rewind": token, "run": number}';

/** `new`; a token; a fork of one, which is a session of its own; or one that goes on from an earlier run. */
export const sessionSchema = z.union(
  [
    z.literal('new').transform(() => ({ kind: 'new' }) as const),
    token.transform((text) => ({ kind: 'continue', token: text, run: undefined as number | undefined }) as const),
    z
      .strictObject({ fork: token, run: run.optional() }, { error: REQUEST_TEXT })
      .transform((given) => ({ kind: 'fork', token: given.fork, run: given.run }) as const),
    z
      .strictObject({ rewind: token, run }, { error: REQUEST_TEXT })
      .transform((given) => ({ kind: 'continue', token: given.rewind, run: given.run as number | undefined }) as const),
  ],
  { error: REQUEST_TEXT },
);

export type SessionRequest = z.output<typeof sessionSchema>;
