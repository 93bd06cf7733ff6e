/** From positions in a bundle back to the author's files. */

import { SourceMap, type SourceMapPayload } from 'node:module';
import { printableJson } from '../../host-functions/index.ts';

/** How the engine names the bundle in stacks (`runtime/javascript/program-builder.ts`). */
const BUNDLE_FRAME = /\bfunction\.js:(\d+):(\d+)/g;
const MAX_EXCERPT_CHARS = 200;
/** They are taken apart on the node's thread, 80 ms and 30 MB of heap for each million; 5 MB of ordinary source have three. */
const MAX_MAPPINGS_CHARS = 4 * 2 ** 20;
/** Of one text: a guest may write positions until its line is full, and each costs the node's thread a search. */
const MAX_FRAMES = 100;
/** A map may come with the source, so names are the author's word; a position in a file of a longer one is left as it is. */
const MAX_FILE_CHARS = 1_000;

export interface SourcePosition {
  readonly file: string;
  /** 1-based, as `column`. */
  readonly line: number;
  readonly column: number;
  /** The line itself, shortened. */
  readonly text?: string;
}

export class SourceLocator {
  readonly #map: SourceMap | null;
  readonly #files: Readonly<Record<string, string>>;

  /** `sourceMap` is JSON text, or null; one that can't be read, or is too large, counts as none. */
  constructor(sourceMap: string | null, files: Readonly<Record<string, string>>) {
    this.#map = readMap(sourceMap);
    this.#files = files;
  }

  /** 1-based line and column of the bundle -> of the author's file; null where the map knows nothing. */
  locate(line: number, column: number): SourcePosition | null {
    const found = this.#find(line, column);
    if (found === null) return null;
    const { source, ...position } = found;
    const text = this.#textOf(source, position.file)
      ?.split('\n')
      [position.line - 1]?.trimEnd()
      .slice(0, MAX_EXCERPT_CHARS);
    return text === undefined ? position : { ...position, text };
  }

  /** Without the line's text, for which a file of megabytes is taken apart. `source` is the file as the map calls it. */
  #find(line: number, column: number): (SourcePosition & { readonly source: string }) | null {
    const origin = this.#map?.findEntry(line - 1, column - 1);
    if (origin === undefined || !('originalSource' in origin)) return null;
    const { originalSource: source, originalLine, originalColumn } = origin;
    if (typeof source !== 'string' || source.length > MAX_FILE_CHARS) return null;
    return { source, file: this.#fileOf(source), line: originalLine + 1, column: originalColumn + 1 };
  }

  /** A guest's stack with the bundle's positions replaced by the author's, the first hundred of them. */
  mapStack(stack: string): string {
    return this.#mapped(stack, (file) => file);
  }

  /** The same for JSON text, whose strings hold stacks; names of files are escaped as a log line's text is. */
  mapJson(json: string): string {
    return this.#mapped(json, (file) => printableJson(file).slice(1, -1));
  }

  #mapped(text: string, write: (file: string) => string): string {
    let frames = 0;
    return text.replace(BUNDLE_FRAME, (frame, line: string, column: string) => {
      const position = ++frames > MAX_FRAMES ? null : this.#find(Number(line), Number(column));
      return position === null ? frame : `${write(position.file)}:${position.line}:${position.column}`;
    });
  }

  /** The map's own contents first: what was deployed may be a bundle that the author's machine made of other files. */
  #textOf(source: string, file: string): string | undefined {
    const { sources, sourcesContent } = this.#map!.payload;
    return sourcesContent?.[sources.indexOf(source)] ?? this.#files[file];
  }

  /** Bundlers write names of virtual files with a namespace or a leading `./`. */
  #fileOf(source: string): string {
    const bare = source.replace(/^[a-z-]+:(?!\/\/)/, '').replace(/^(?:\.?\/)+/, '');
    return Object.hasOwn(this.#files, bare) ? bare : source;
  }
}

function readMap(sourceMap: string | null): SourceMap | null {
  if (sourceMap === null || sourceMap === '') return null;
  try {
    const payload = JSON.parse(sourceMap) as SourceMapPayload;
    return payload.mappings.length > MAX_MAPPINGS_CHARS ? null : new SourceMap(payload);
  } catch {
    return null;
  }
}
