/** Deployed functions: what the rest of the node uses of this folder. Re-exported by `invoker/index.ts`. */

export { type DeployedVersion, type EnvResolver, PostgresCatalog, type PostgresCatalogOptions } from './catalog.ts';
export { CatalogSync, type CatalogSyncOptions } from './catalog-sync.ts';
export type { StoredSource } from './config-types.ts';
export {
  type BundleRequest,
  type Bundler,
  Deployer,
  type DeployerOptions,
  type Deployment,
  type DeployRequest,
} from './deployer.ts';
export {
  type Change,
  type Form,
  type FunctionDetails,
  FunctionStore,
  type FunctionSummary,
  functionNotFound,
  type VersionSummary,
} from './function-store.ts';
export { ImageCache } from './image-cache.ts';
export { type InvocationFilter, InvocationReader, type InvocationRow } from './invocation-reader.ts';
export { type CodeFields, type DependencySource, type Manifest, parseManifest, splitManifest } from './manifest.ts';
export { SourceLocator, type SourcePosition } from './source-locator.ts';
export { StackMapper } from './stack-mapper.ts';
