export type { CompilerKind } from './compilers.ts';
export { runCompiler } from './run-compiler.ts';
