/** Joins the log of `host-functions/` (caps, redaction, output) to what the invoker keeps with the record. */

import { InvocationLog, type LogBudgets, type LogOutput } from '../host-functions/index.ts';
import type { DeployedVersion } from '../invoker/functions/index.ts';
import type { FunctionVersion, InvocationLog as KeptLog } from '../invoker/index.ts';
import type { LogLine } from '../runtime/index.ts';

export function openInvocationLog(
  scope: { readonly functionName: string; readonly requestId: string },
  version: FunctionVersion,
  output: LogOutput,
  budgets: LogBudgets,
): KeptLog {
  // The catalogue of this node makes no others.
  const { redact } = version as DeployedVersion;
  const { functionName, requestId } = scope;
  const log = new InvocationLog({ functionName, requestId, redact, output, budget: budgets.of(functionName) });
  return {
    add: log.write,
    get lines(): readonly LogLine[] {
      return log.lines;
    },
  };
}
