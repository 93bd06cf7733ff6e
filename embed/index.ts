/** Functions inside of another program: what `import … from 'postern'` is in Node. */

import type { Runtime, RuntimeOptions } from '../types/runtime.d.ts';

export type {
  InvokeRequest,
  InvokeResult,
  Runtime,
  RuntimeLanguage,
  RuntimeLogLine,
  RuntimeOptions,
  RuntimeUsage,
} from '../types/runtime.d.ts';
export {
  FunctionCpuError,
  FunctionError,
  FunctionMemoryError,
  FunctionPanicError,
  FunctionTimeoutError,
  InvalidRequestError,
  InvalidResultError,
  InvalidSourceError,
  InvokeError,
  RuntimeClosedError,
} from './errors.ts';

/** The rest is loaded here: a test of a function imports "postern" too, and wants nothing of it. */
export async function createRuntime(options: RuntimeOptions = {}): Promise<Runtime> {
  const embedded = await import('./embedded-runtime.ts');
  return embedded.createRuntime(options);
}
