import { editDistance } from '../../runtime/index.ts';

/** The name that was probably meant; undefined where nothing is near. */
export function closest(given: string, names: readonly string[]): string | undefined {
  const limit = Math.ceil(given.length / 3);
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of names) {
    const distance = editDistance(given.toLowerCase(), name.toLowerCase());
    if (distance <= limit && distance < (best?.distance ?? Number.POSITIVE_INFINITY)) best = { name, distance };
  }
  return best?.name;
}

/** `a, b, c` with a limit, for messages. */
export function enumerate(names: readonly string[], limit = 12): string {
  const shown = names.slice(0, limit).join(', ');
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
