export * from './database/index.ts';
export * from './execute/index.ts';
export * from './http/index.ts';
export * from './schedule/index.ts';
export * from './webhook/index.ts';
