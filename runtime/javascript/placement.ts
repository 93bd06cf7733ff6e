/** Where the linker put a side module. The same for every instance of an engine. */
export interface SidePlacement {
  readonly memoryBase: number;
  readonly tableBase: number;
}
