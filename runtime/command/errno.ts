/** The error numbers of WASI preview 1 that this host answers with (wasi_snapshot_preview1.witx). */
export const ERRNO = {
  success: 0,
  badf: 8,
  fault: 21,
  fbig: 22,
  inval: 28,
  nosys: 52,
  notcapable: 76,
} as const;
