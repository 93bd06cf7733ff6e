/** A replay's report for a terminal. What a function said in it may be hostile. */

import type { ReplayReport, ReplayStep } from './control-client.ts';
import type { Output } from './output.ts';
import { safeLine } from './terminal-text.ts';

export function replayLines(report: ReplayReport, output: Output): string[] {
  const { same, difference, steps, host_calls: calls, lost, unanswered, result } = report;
  // Code that was never deployed has no version.
  const version = report.replayed_version === 0 ? '' : ` v${report.replayed_version}`;
  const name = `${safeLine(report.function)}${version}`;
  if (lost !== null) return [];
  const amount = `${counted(steps, 'step')}, ${counted(calls, 'host call')}`;
  const lines = same
    ? [
        `${output.style('green', 'same')} ${name}: ${amount}${report.end === null ? ', up to where it was stopped' : ''}`,
      ]
    : [`${output.style('red', 'different')} ${name}: after ${amount} that were the same`];
  if (difference !== null) {
    lines.push(`  recorded  ${stepText(difference.recorded, difference.host_call)}`);
    lines.push(`  now       ${stepText(difference.now, difference.host_call)}`);
  }
  if (unanswered !== null) lines.push(`  it went on to ${stepText(unanswered)}, to which there is no recorded answer`);
  else if (report.changed && !same && report.end !== null) {
    const came = result === null ? safeLine(report.end) : safeLine(result);
    lines.push(`  it went on to its end: ${came}`);
  }
  if (report.engine_changed)
    lines.push(`  ${output.style('dim', 'it was recorded with another release of the engine')}`);
  return lines;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** hostCall: which one it is, where it is one. */
function stepText({ kind, operation = '', text }: ReplayStep, hostCall?: number): string {
  const said = safeLine(text);
  switch (kind) {
    case 'call':
      return `host call ${hostCall === undefined ? '' : `${hostCall} `}${safeLine(operation)} ${said}`;
    case 'cast':
      return `${safeLine(operation)} ${said}`;
    case 'finish':
      return `the result: ${said}`;
    case 'realtime':
    case 'monotonic':
      return 'a look at the clock';
    case 'random':
      return `randomness, ${said}`;
    case 'settle':
      return `the answer to a host call: ${said}`;
    case 'fire':
    case 'wake':
      return 'a timer';
    case 'release':
      return 'the end of the work behind the answer';
    case 'wait':
      return 'nothing: it waits';
    default:
      return `the end: ${said}`;
  }
}
