import { name, u32 } from './byte-writer.ts';

/** A custom section, to stand behind a module's last one. */
export function customSection(sectionName: string, content: Uint8Array): Uint8Array {
  const head = name(sectionName);
  return Uint8Array.from([0, ...u32(head.length + content.length), ...head, ...content]);
}
