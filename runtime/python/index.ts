export { buildInterpreterApart, buildPythonApart } from './build-apart.ts';
export { type Interpreter, startInterpreter } from './interpreter.ts';
export { packInterpreter, unpackInterpreter } from './packed-interpreter.ts';
export {
  buildPython,
  type PythonBuildLimits,
  type PythonDefinition,
  type PythonFunction,
} from './python-builder.ts';
export { PythonExecution, type PythonProgram } from './python-execution.ts';
export { decodePythonImage, encodePythonImage, isStoredPython, type PythonImage } from './python-image.ts';
export { buildPythonSource, type PythonSource, pythonFingerprint } from './python-module.ts';
export { DEFAULT_PYTHON_POOL_OPTIONS, PythonPool, type PythonPoolOptions } from './python-pool.ts';
