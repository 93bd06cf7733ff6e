export {
  asBase,
  type BaseMemoryImage,
  captureImage,
  copyIn,
  decodeImage,
  encodeImage,
  fillFresh,
  type MemoryImage,
  PAGE_BYTES,
  restoreImage,
} from './image.ts';
export { MAP_ADDRESS, MAP_BYTES, noteWrite, restoreWritten, TRACKED_PAGE_BYTES } from './write-map.ts';
