/** The first byte that a compiler's process answers with: what follows is its output, or the error's record as JSON text. */
export const ANSWER = { output: 0, error: 1 } as const;
