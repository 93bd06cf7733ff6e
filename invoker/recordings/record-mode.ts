/** Which invocations of a function are recorded: all, or those that fail. */
export type RecordMode = true | 'failures';
