/** From positions in a bundle back to the author's files. */

import { SourceMap, type SourceMapPayload } from 'node:module';
import { printableJson } from '../../host-functions/index.ts';

/** How the engine names the bundle in stacks (`runtime/javascript/program-builder.ts`). */
const BUNDLE_FRAME = /\bfunction\.js:(\d+):(\d+)/g;
const MAX_EXCERPT_CHARS = 200;

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

  /** `sourceMap` is JSON text, or null; one that can't be read counts as none. */
  constructor(sourceMap: string | null, files: Readonly<Record<string, string>>) {
    this.#map = readMap(sourceMap);
    this.#files = files;
  }

  /** 1-based line and column of the bundle -> of the author's file; null where the map knows nothing. */
  locate(line: number, column: number): SourcePosition | null {
    const origin = this.#map?.findEntry(line - 1, column - 1);
    if (origin === undefined || !('originalSource' in origin) || typeof origin.originalSource !== 'string') return null;
    const file = this.#fileOf(origin.originalSource);
    const position = { file, line: origin.originalLine + 1, column: origin.originalColumn + 1 };
    const text = this.#textOf(origin.originalSource, file)
      ?.split('\n')
      [origin.originalLine]?.trimEnd()
      .slice(0, MAX_EXCERPT_CHARS);
    return text === undefined ? position : { ...position, text };
  }

  /** A guest's stack with the bundle's positions replaced by the author's. */
  mapStack(stack: string): string {
    return this.#mapped(stack, (file) => file);
  }

  /** The same for JSON text, whose strings hold stacks; names of files are escaped as a log line's text is. */
  mapJson(json: string): string {
    return this.#mapped(json, (file) => printableJson(file).slice(1, -1));
  }

  #mapped(text: string, write: (file: string) => string): string {
    return text.replace(BUNDLE_FRAME, (frame, line: string, column: string) => {
      const position = this.locate(Number(line), Number(column));
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
    return new SourceMap(JSON.parse(sourceMap) as SourceMapPayload);
  } catch {
    return null;
  }
}
