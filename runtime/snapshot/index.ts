export {
  asBase,
  type BaseMemoryImage,
  captureImage,
  copyIn,
  decodeDifference,
  decodeImage,
  differenceTo,
  encodeDifference,
  encodeImage,
  fillFresh,
  type ImageDifference,
  type MemoryImage,
  PAGE_BYTES,
  type PackedBase,
  packBase,
  pageOf,
  restoreImage,
  unpackBase,
} from './image.ts';
export { LayeredImage } from './layered-image.ts';
export {
  decodeSession,
  encodeSession,
  MAX_SESSION_BYTES,
  putSessionMemory,
  type SessionBase,
  SessionImageError,
  type SessionMemory,
  SessionTooLargeError,
  sessionMemory,
} from './session-image.ts';
export { MAP_ADDRESS, MAP_BYTES, noteWrite, restoreWritten, TRACKED_PAGE_BYTES, writtenPages } from './write-map.ts';
