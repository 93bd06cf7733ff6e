/** Called with what nobody caught, and no listener for `error` prevented. Set by the guest's entry. */
export const hooks: { onUncaught: (error: unknown) => void } = { onUncaught: () => {} };
