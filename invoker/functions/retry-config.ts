/** `retry` and `deadLetter` as the author writes them, for a function and for one of its triggers -> a checked configuration. */

import { z } from 'zod';
import type { BackoffConfig, FailureConfig, RetryConfig, RetryRule } from './config-types.ts';
import { duration } from './units.ts';

const BACKOFF_TEXT = "'exponential', 'fixed' or { initial: '1s', factor: 2, max: '5m' }";
const MAX_ATTEMPTS_TEXT = 'a whole number from 1 to 100';
const CLASS_TEXT = "'timeout', 'memory', 'cpu', 'panic' or the name of an error, e.g. 'TypeError'";
const DEAD_LETTER_TEXT = 'the name of a function';
const MAX_CLASSES = 50;
const DAY_MS = 24 * 3_600_000;

export const DEFAULT_BACKOFF: BackoffConfig = { initialMs: 1_000, factor: 2, maxMs: 300_000 };
export const DEFAULT_RETRY: RetryConfig = { maxAttempts: 5, backoff: DEFAULT_BACKOFF };

const ms = duration(1, DAY_MS);
const backoff = z
  .union(
    [
      z.literal('exponential').transform(() => ({})),
      z.literal('fixed').transform(() => ({ factor: 1 })),
      z
        .strictObject({
          initial: ms.optional(),
          initialMs: ms.optional(),
          factor: z.number().min(1, { error: BACKOFF_TEXT }).max(10, { error: BACKOFF_TEXT }).optional(),
          max: ms.optional(),
          maxMs: ms.optional(),
        })
        .transform(({ initial, initialMs = initial, factor, max, maxMs = max }) => ({
          ...(initialMs === undefined ? {} : { initialMs }),
          ...(factor === undefined ? {} : { factor }),
          ...(maxMs === undefined ? {} : { maxMs }),
        })),
    ],
    { error: BACKOFF_TEXT },
  )
  .transform((given): BackoffConfig => ({ ...DEFAULT_BACKOFF, ...given }));

const maxAttempts = z
  .int({ error: MAX_ATTEMPTS_TEXT })
  .min(1, { error: MAX_ATTEMPTS_TEXT })
  .max(100, { error: MAX_ATTEMPTS_TEXT });

const object = (shape: string) => ({
  error: (issue: { code?: string }) => (issue.code === 'unrecognized_keys' ? undefined : shape),
});

const rule = z
  .strictObject(
    { maxAttempts: maxAttempts.optional(), backoff: backoff.optional() },
    object('{ maxAttempts, backoff }'),
  )
  .transform((given): RetryRule => JSON.parse(JSON.stringify(given)) as RetryRule);

export const retrySchema = z
  .strictObject(
    {
      maxAttempts: maxAttempts.default(DEFAULT_RETRY.maxAttempts),
      backoff: backoff.default(DEFAULT_BACKOFF),
      maxAge: duration(1_000, 30 * DAY_MS).optional(),
      maxAgeMs: duration(1_000, 30 * DAY_MS).optional(),
      on: z
        .record(z.string().regex(/^[A-Za-z_$][\w$]{0,99}$/, { error: CLASS_TEXT }), rule, {
          error: `rules by class of error: ${CLASS_TEXT}`,
        })
        .refine((rules) => Object.keys(rules).length <= MAX_CLASSES, { error: `at most ${MAX_CLASSES} classes` })
        .optional(),
    },
    object('{ maxAttempts, backoff, maxAge, on }'),
  )
  .transform(
    ({ maxAttempts: most, backoff: pauses, maxAge, maxAgeMs = maxAge, on }): RetryConfig => ({
      maxAttempts: most,
      backoff: pauses,
      ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
      ...(on === undefined ? {} : { on }),
    }),
  );

/** Of every trigger whose events come through the outbox. */
export const failureSchemas = {
  retry: retrySchema.optional(),
  deadLetter: z
    .string({ error: DEAD_LETTER_TEXT })
    .regex(/^[a-z][a-z0-9_-]{0,62}$/, { error: DEAD_LETTER_TEXT })
    .optional(),
};
export const FAILURE_FIELDS = ['retry', 'deadLetter'] as const;

/** Without what is absent: a trigger of an earlier version must not become another one. */
export function failureConfig({
  retry,
  deadLetter,
}: { [key in keyof FailureConfig]: FailureConfig[key] | undefined }): FailureConfig {
  return { ...(retry === undefined ? {} : { retry }), ...(deadLetter === undefined ? {} : { deadLetter }) };
}
