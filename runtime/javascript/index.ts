export { buildEngineModule, createEngine, type Engine, type EngineSource, engineId } from './engine.ts';
export { Execution, type ExecutionListener } from './execution.ts';
export { MAX_META_BYTES } from './host-door.ts';
export type { BaseImage, Image } from './image.ts';
export {
  BUNDLE_FILE_NAME,
  type BuildLimits,
  buildBaseImage,
  buildProgram,
  type ProgramDefinition,
} from './program-builder.ts';
export { Sandbox } from './sandbox.ts';
export { DEFAULT_POOL_OPTIONS, SandboxPool, type SandboxPoolOptions } from './sandbox-pool.ts';
