export { Ambient } from './ambient.ts';
export * from './assemblyscript/index.ts';
export { buildCommandApart } from './command/build-apart.ts';
export * from './command/index.ts';
export { isComponent, transpileComponentApart } from './component/build-apart.ts';
export { ComponentExecution, type ComponentProgram, isStoredComponent, loadComponent } from './component/index.ts';
export { editDistance } from './edit-distance.ts';
export * from './errors.ts';
export * from './execution.ts';
export * from './host-function.ts';
export * from './javascript/index.ts';
export { MemoryBudget } from './memory-budget.ts';
export * from './python/index.ts';
export { Scheduler } from './scheduler.ts';
export { asBase, decodeImage, encodeImage, MAX_SESSION_BYTES, type SessionBase } from './snapshot/index.ts';
export {
  type Recording,
  type ReplaySummary,
  readSteps,
  type SaidStep,
  summarize,
  TapeError,
  TapePlayer,
  TapeRecorder,
} from './tape/index.ts';
