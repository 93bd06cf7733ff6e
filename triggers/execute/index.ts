export type { ExecuteAnswer } from './answer.ts';
export { CodeRunner, type CodeRunnerOptions } from './code-runner.ts';
export { type ExecuteTriggerOptions, executeTrigger } from './execute-trigger.ts';
export {
  OUTPUTS_RETENTION,
  Outputs,
  type OutputsOptions,
  S3Bucket,
  type S3BucketOptions,
} from './outputs/index.ts';
export { type Policy, readPolicy, rulesSchema } from './policy.ts';
export { PolicyStore } from './policy-store.ts';
export { EXECUTE_RESULTS_RETENTION, ResultCache } from './result-cache.ts';
export {
  type HeldSession,
  noSession,
  SESSION_RETENTION,
  type SessionLimits,
  type SessionRequest,
  Sessions,
  sessionSchema,
  sessionSummaryOf,
} from './sessions/index.ts';
