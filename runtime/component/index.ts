export { ComponentExecution } from './component-execution.ts';
export { type ComponentProgram, loadComponent } from './component-program.ts';
export { type ComponentWorld, isStoredComponent } from './stored-component.ts';
export { transpileComponent } from './transpile-component.ts';
