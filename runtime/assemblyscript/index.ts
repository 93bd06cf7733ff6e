export { compileAssemblyScript } from './compile.ts';
