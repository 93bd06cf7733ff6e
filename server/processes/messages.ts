/** What the first process of `serve --processes` and the others, its members, say to each other over Node's IPC channel. */

export type FromMember =
  /** It answers requests under this URL. */
  | { readonly type: 'serving'; readonly url: string }
  /** It was asked for metrics and wants everybody's. */
  | { readonly type: 'collect'; readonly id: number }
  /** Its own metrics, as asked for by `collect` of the same id. */
  | { readonly type: 'collected'; readonly id: number; readonly page: string };

export type ToMember =
  | { readonly type: 'stop' }
  | { readonly type: 'collect'; readonly id: number }
  /** The pages of all members that answered in time. */
  | { readonly type: 'metrics'; readonly id: number; readonly pages: readonly string[] };
