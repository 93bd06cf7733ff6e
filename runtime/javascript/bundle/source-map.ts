/** Source maps that say nothing of the machine on which they were made. */

interface SourceMapV3 {
  readonly version: 3;
  readonly sources: readonly string[];
  readonly sourcesContent?: readonly (string | null)[];
  readonly mappings: string;
  readonly names: readonly string[];
}

/** Renames the sources by `rename` and drops the text of those for which `withoutText` (given the old name) holds. */
export function portableSourceMap(
  json: string,
  rename: (source: string) => string,
  withoutText: (source: string) => boolean,
): string {
  const map = JSON.parse(json) as SourceMapV3;
  return JSON.stringify({
    version: 3,
    sources: map.sources.map(rename),
    sourcesContent: map.sources.map((source, index) =>
      withoutText(source) ? null : (map.sourcesContent?.[index] ?? null),
    ),
    mappings: map.mappings,
    names: map.names,
  } satisfies SourceMapV3);
}
