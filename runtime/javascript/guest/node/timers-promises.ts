/** node:timers/promises */

export function setTimeout<T>(
  delayMs?: number,
  value?: T,
  { signal }: { signal?: AbortSignal } = {},
): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const refuse = (): void =>
      reject(
        Object.assign(new Error('The operation was aborted', { cause: signal?.reason }), {
          name: 'AbortError',
          code: 'ABORT_ERR',
        }),
      );
    if (signal?.aborted) {
      refuse();
      return;
    }
    const id = globalThis.setTimeout(() => resolve(value), delayMs);
    signal?.addEventListener(
      'abort',
      () => {
        globalThis.clearTimeout(id);
        refuse();
      },
      { once: true },
    );
  });
}
export const setImmediate = <T>(value?: T, options?: { signal?: AbortSignal }): Promise<T | undefined> =>
  setTimeout(0, value, options);
export async function* setInterval<T>(
  delayMs?: number,
  value?: T,
  options?: { signal?: AbortSignal },
): AsyncGenerator<T | undefined> {
  for (;;) yield await setTimeout(delayMs, value, options);
}
export const scheduler = {
  wait: (delayMs: number, options?: { signal?: AbortSignal }): Promise<unknown> =>
    setTimeout(delayMs, undefined, options),
  yield: (): Promise<unknown> => setImmediate(),
};
export default { setTimeout, setImmediate, setInterval, scheduler };
