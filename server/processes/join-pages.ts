/**
 * Makes one page of metrics of several. The format wants all samples of a family in one group behind one head, and the
 * pages, each in prom-client's writing, have the same families.
 */
export function joinPages(pages: readonly string[]): string {
  const families = new Map<string, string[]>();
  for (const family of pages.flatMap((page) => page.trimEnd().split('\n\n'))) {
    const [help = '', type = '', ...samples] = family.split('\n');
    const head = `${help}\n${type}`;
    const known = families.get(head);
    if (known === undefined) families.set(head, samples);
    else known.push(...samples);
  }
  return `${[...families].map(([head, samples]) => [head, ...samples].join('\n')).join('\n\n')}\n`;
}
