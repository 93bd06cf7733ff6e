export { bundleLazyParts, partsMentioned } from '../guest/web/bundle-lazy.ts';
export { BUNDLE_TIMEOUT_MS, type Bundle, type BundleInput, bundle, MAX_BUNDLE_BYTES, stopBundler } from './bundle.ts';
export { bundleLocal, type LocalBundle, type LocalBundleInput } from './bundle-local.ts';
export { closestName } from './closest-name.ts';
export { MAX_FILES, MAX_SOURCE_BYTES } from './source-files.ts';
export { type Transformed, transform } from './transform.ts';
