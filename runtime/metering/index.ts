export { ModuleRefusedError } from '../wasm/errors.ts';
export type { ModuleExport, ModuleImport } from '../wasm/module-parser.ts';
export { MAX_QUANTUM, Meter, type MeterHooks } from './meter.ts';
export {
  type GlobalType,
  METER_EXPORTS,
  type MeteredModule,
  type MeterOptions,
  meter,
  RESERVED_EXPORT_PREFIX,
  START_FUEL,
} from './meter-module.ts';
export { SLACK_BYTES, TRACKED_PAGE_SHIFT, TRACKED_PAGES_EXPORT, trackWrites } from './write-tracking.ts';
