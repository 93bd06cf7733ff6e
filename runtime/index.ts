export * from './command/index.ts';
export { editDistance } from './edit-distance.ts';
export * from './errors.ts';
export * from './execution.ts';
export * from './host-function.ts';
export * from './javascript/index.ts';
export { MemoryBudget } from './memory-budget.ts';
export { Scheduler } from './scheduler.ts';
export { decodeImage, encodeImage } from './snapshot/index.ts';
