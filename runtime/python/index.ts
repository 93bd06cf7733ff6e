export { createInterpreter, type Interpreter } from './interpreter.ts';
export {
  buildPython,
  type PythonBuildLimits,
  type PythonDefinition,
  type PythonFunction,
} from './python-builder.ts';
export { PythonExecution, type PythonProgram } from './python-execution.ts';
export type { PythonImage } from './python-image.ts';
export { buildPythonSource, type PythonSource, pythonFingerprint } from './python-module.ts';
export { DEFAULT_PYTHON_POOL_OPTIONS, PythonPool, type PythonPoolOptions } from './python-pool.ts';
export {
  decodePython,
  encodePython,
  isStoredPython,
  packPythonSource,
  unpackPythonSource,
} from './stored-python.ts';
