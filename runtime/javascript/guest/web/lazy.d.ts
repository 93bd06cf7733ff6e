/** The minified source of `lazy/<name>.ts`, packed (see `unpack.ts`), put in by `lazySourcePlugin`. */
declare module 'lazy:*' {
  const source: { packed: string; lengthBytes: number };
  export default source;
}
