export { buildEngineModule, createEngine, type Engine, type EngineSource, engineId } from './engine.ts';
export {
  type EndReason,
  Execution,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionListener,
  type ExecutionUsage,
} from './execution.ts';
export { type Finish, type FinishKind, MAX_META_BYTES } from './host-door.ts';
export { type BaseImage, decodeImage, encodeImage, type Image } from './image.ts';
export {
  BUNDLE_FILE_NAME,
  type BuildLimits,
  buildBaseImage,
  buildProgram,
  type ProgramDefinition,
} from './program-builder.ts';
export { Sandbox } from './sandbox.ts';
export { DEFAULT_POOL_OPTIONS, SandboxPool, type SandboxPoolOptions } from './sandbox-pool.ts';
