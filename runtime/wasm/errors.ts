import { PosternError } from '../errors.ts';

/**
 * The uploaded module cannot run here: it is invalid, or it uses what Postern does not meter.
 * `feature` names the thing in a few fixed words ('memory64', 'atomics'), for messages and tests.
 */
export class ModuleRefusedError extends PosternError {
  readonly feature: string;

  constructor(feature: string, detail?: string) {
    const text = `WebAssembly module refused: ${feature}${detail === undefined ? '' : ` (${detail})`}`;
    super('INVALID_FUNCTION', text, { details: { feature } });
    this.feature = feature;
  }
}
