import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

/** Host side. Turns `lazy/<name>.ts` into one string of minified source, for `import source from 'lazy:<name>'`. */

export const LAZY_PARTS = ['clone', 'events', 'forms', 'inspect', 'streams', 'subtle'] as const;
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

/** For the bundle of the prelude. */
export const lazySourcePlugin: Plugin = {
  name: 'postern-lazy-source',
  setup(prelude) {
    prelude.onResolve({ filter: /^lazy:/ }, ({ path }) => ({ path: path.slice('lazy:'.length), namespace: 'lazy' }));
    prelude.onLoad({ filter: /.*/, namespace: 'lazy' }, async ({ path }) => {
      const source = await bundlePart(path);
      return {
        contents: `export default ${JSON.stringify({ packed: packSource(source), lengthBytes: source.length })}`,
        loader: 'js',
      };
    });
  },
};

const NEAR_BYTES = 0xfff;
const FAR_BYTES = 0xffff;
const CANDIDATES = 400;

interface Step {
  readonly cost: number;
  readonly length: number;
  readonly back: number;
}

/** Packs ASCII text in the format of `unpack.ts`, choosing the cheapest way by dynamic programming. */
export function packSource(source: string): string {
  if (/[^\0-\x7f]/.test(source)) throw new Error('Only ASCII text can be packed');
  const matches = longestMatches(source);
  const best: Step[] = new Array(source.length + 1);
  best[source.length] = { cost: 0, length: 0, back: 0 };
  for (let at = source.length - 1; at >= 0; at -= 1) {
    let choice: Step = { cost: 1 + (best[at + 1] as Step).cost, length: 1, back: 0 };
    for (const { length: longest, back } of matches[at] ?? []) {
      for (let length = 3; length <= longest; length += 1) {
        const near = length <= 6 && back <= NEAR_BYTES;
        if (!near && length < 4) continue;
        const cost = (near ? 2 : 3) + (best[at + length] as Step).cost;
        if (cost < choice.cost) choice = { cost, length, back };
      }
    }
    best[at] = choice;
  }
  let packed = '';
  for (let at = 0; at < source.length; ) {
    const { length, back } = best[at] as Step;
    if (back === 0) packed += source[at];
    else if (length <= 6 && back <= NEAR_BYTES) {
      packed += String.fromCharCode(128 | ((length - 3) << 4) | (back >> 8), back & 255);
    } else packed += String.fromCharCode(192 | (length - 4), back >> 8, back & 255);
    at += length;
  }
  return packed;
}

interface Match {
  readonly length: number;
  readonly back: number;
}

/** For each position the longest earlier match within the near and within the far window, never overlapping. */
function longestMatches(source: string): Match[][] {
  const seen = new Map<string, number[]>();
  return Array.from({ length: source.length }, (_, at) => {
    const key = source.slice(at, at + 3);
    const places = seen.get(key) ?? [];
    let near: Match = { length: 0, back: 0 };
    let far: Match = near;
    for (const place of places.slice(-CANDIDATES).reverse()) {
      const back = at - place;
      if (back > FAR_BYTES) break;
      let length = 3;
      while (
        length < 67 &&
        length < back &&
        at + length < source.length &&
        source[place + length] === source[at + length]
      )
        length += 1;
      if (length > back) continue;
      if (back <= NEAR_BYTES && length > near.length) near = { length, back };
      if (length > far.length) far = { length, back };
    }
    places.push(at);
    seen.set(key, places);
    return near.length === 0 ? (far.length === 0 ? [] : [far]) : [near, far];
  });
}

const MENTIONS: Record<LazyPart, RegExp> = {
  clone: /\bstructuredClone\b/,
  events:
    /\b(?:new\s+(?:\w*Event|EventTarget|AbortController|MessageChannel)|AbortSignal\s*\.|extends\s+(?:EventTarget|Event))\b/,
  forms: /\b(?:Blob|File|FormData)\s*\(|\.(?:formData|blob)\s*\(/,
  inspect: /\bconsole\s*\.\s*\w+\s*\(/,
  streams:
    /\bnew\s+\w*(?:Stream|Strategy)\b|\.(?:body|stream|getReader|pipeTo|pipeThrough)\b(?=[^\n]{0,40}(?:getReader|pipe|tee|Symbol\.asyncIterator))/,
  subtle: /\bsubtle\b/,
};

/**
 * The parts that a function's bundle is likely to use. Hand them to the guest's `warmParts` before the function's top
 * level runs: then they are compiled in the image, not anew in every invocation. A wrong guess costs only time or size.
 */
export function partsMentioned(bundle: string): LazyPart[] {
  return LAZY_PARTS.filter((name) => MENTIONS[name].test(bundle));
}
