export * from './dead-letters.ts';
export { Dispatcher } from './dispatcher.ts';
export type { DispatcherMetrics, DispatcherOptions } from './dispatcher-options.ts';
export { captureOwner, type Drift, type DriftState, findDrift } from './drift.ts';
export { DriftWatch, type DriftWatchOptions } from './drift-watch.ts';
export { type FiredEvent, fireEvents } from './fire-event.ts';
export { DatabaseTriggerInstaller, type InstallerOptions } from './installer.ts';
export type { DeliveryPolicy } from './retry-policy.ts';
