/** Called with what a listener or a timer's callback threw: nobody is there to catch it. Set by the guest's entry. */
export const hooks: { onUncaught: (error: unknown) => void } = { onUncaught: () => {} };
