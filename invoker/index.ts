export * from './admission.ts';
export type { InvocationLog } from './attempt-records.ts';
export { ModuleBuilder } from './builder/module-builder.ts';
export * from './catalog.ts';
export { Counts } from './counts.ts';
export { buildEngineId, bundlePrelude, loadEngineSource } from './engine-source.ts';
export * from './evaluator/index.ts';
export { EXECUTOR_V8_FLAGS, executorCommand } from './executor/executor-command.ts';
export { ExecutorPool, type ExecutorPoolLog, type ExecutorPoolOptions } from './executor/executor-pool.ts';
export * from './function-config.ts';
export {
  DEFAULT_MAX_RESULT_BYTES,
  FunctionInvoker,
  type FunctionInvokerOptions,
} from './function-invoker.ts';
export { isScript, languageFile, languageNamed, languageOfFile } from './functions/languages.ts';
export { duration, size } from './functions/units.ts';
export * from './invocation.ts';
export { type InvocationRecord, InvocationRecorder, type RecorderOptions } from './invocation-recorder.ts';
export { machineMemoryBytes } from './machine-memory.ts';
export { MAX_EVENT_BYTES } from './protocol/messages.ts';
export { type RecordRetention, recordRetention } from './record-retention.ts';
export * from './recordings/index.ts';
export * from './sandboxes.ts';
export * from './trigger-installer.ts';
