export { CodeRunner, type CodeRunnerOptions, type ExecuteAnswer } from './code-runner.ts';
export { type ExecuteTriggerOptions, executeTrigger } from './execute-trigger.ts';
export { type Policy, readPolicy, rulesSchema } from './policy.ts';
export { PolicyStore } from './policy-store.ts';
export { EXECUTE_RESULTS_RETENTION, ResultCache } from './result-cache.ts';
