import { URLPattern } from 'urlpattern-polyfill/urlpattern';
import type { Constructor } from '../define.ts';
import { finishInterface } from '../define.ts';

finishInterface(URLPattern, 'URLPattern');

export interface UrlPatternPart {
  readonly classes: Readonly<Record<string, Constructor>>;
}

export default (): UrlPatternPart => ({ classes: { URLPattern } as unknown as Record<string, Constructor> });
