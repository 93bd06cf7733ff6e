import type { HostFunctionProvider } from '../../runtime/index.ts';
import { parseLogPayload } from './log-payload.ts';

/** `log`, a cast: the guest waits for no answer. The line goes to `scope.log`, which is an `InvocationLog`'s `write`. */
export function createLogHostFunction(now: () => number = Date.now): HostFunctionProvider {
  return {
    operations: ['log'],
    open: (scope) => ({
      async call(_operation, payload) {
        scope.log(parseLogPayload(payload, now()));
        return 'null';
      },
      async close() {},
    }),
  };
}
