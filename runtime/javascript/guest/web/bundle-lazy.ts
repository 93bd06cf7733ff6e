import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

/** Host side. Turns `lazy/<name>.ts` into one string of minified source, for guests that ask for it (`parts.ts`). */

export const LAZY_PARTS = [
  'clone',
  'compression',
  'encodings',
  'events',
  'forms',
  'inspect',
  'streams',
  'subtle',
  'url',
  'urlpattern',
] as const;
export type LazyPart = (typeof LAZY_PARTS)[number];

const folder = fileURLToPath(new URL('./lazy/', import.meta.url));

/** The polyfill asks `hasOwn(x, '_field')`: marks such strings, so that they are shortened as the fields are. */
const mangleableKeys: Plugin = {
  name: 'postern-mangleable-keys',
  setup(bundle) {
    bundle.onLoad({ filter: /web-streams-polyfill[\\/]dist[\\/][^\\/]*$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      return { contents: text.replace(/"(_[A-Za-z]+)"/g, '/* @__KEY__ */ "$1"'), loader: 'js' };
    });
  },
};

async function bundlePart(name: string): Promise<string> {
  const result = await build({
    entryPoints: [`${folder}${name}.ts`],
    bundle: true,
    write: false,
    format: 'iife',
    globalName: 'part',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    target: 'es2023',
    minify: true,
    legalComments: 'none',
    // Latin-1 strings cost a byte a character in the engine, others two.
    charset: 'ascii',
    ...(name === 'streams' ? { mangleProps: /^_/, plugins: [mangleableKeys] } : {}),
    // The part's value is what its default export makes of the prelude's `shared`.
    footer: { js: 'return part.default(shared)})' },
    banner: { js: '(function(shared){' },
  });
  return (result.outputFiles[0] as { text: string }).text.trim();
}

/** Name of each part -> its source. */
export async function bundleLazyParts(): Promise<Record<LazyPart, string>> {
  const sources = await Promise.all(LAZY_PARTS.map(async (name) => [name, await bundlePart(name)] as const));
  return Object.fromEntries(sources) as Record<LazyPart, string>;
}

const MENTIONS: Record<LazyPart, RegExp> = {
  clone: /\bstructuredClone\b/,
  compression: /\bnew\s+(?:Dec|C)ompressionStream\b/,
  encodings: /\bTextDecoder(?:Stream)?\s*\(\s*["'`](?!utf|ucs|unicode)\w/i,
  events:
    /\b(?:add|remove|dispatch)Event(?:Listener)?\s*\(|\bon(?:error|unhandledrejection|rejectionhandled)\s*=|\b(?:new\s+(?:\w*Event|EventTarget|AbortController|MessageChannel)|AbortSignal\s*\.|extends\s+(?:EventTarget|Event))\b/,
  forms: /\b(?:Blob|File|FormData)\s*\(|\.(?:formData|blob)\s*\(/,
  inspect: /\bconsole\s*\.\s*\w+\s*\(/,
  streams:
    /\bnew\s+\w*(?:Stream|Strategy)\b|\.(?:body|stream|getReader|pipeTo|pipeThrough)\b(?=[^\n]{0,40}(?:getReader|pipe|tee|Symbol\.asyncIterator))/,
  subtle: /\bsubtle\b/,
  url: /\.(?:host|hostname|protocol)\s*=(?!=)/,
  urlpattern: /\bnew\s+URLPattern\b/,
};

/**
 * The parts that a function's bundle is likely to use. Hand them to the guest's `warmParts` before the function's top
 * level runs: then they are compiled in the image, not anew in every invocation. A wrong guess costs only time or size.
 */
export function partsMentioned(bundle: string): LazyPart[] {
  return LAZY_PARTS.filter((name) => MENTIONS[name].test(bundle));
}
