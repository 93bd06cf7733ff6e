/** The languages of functions: what they are called, how their files end, and what builds them. */

import type { Language, ScriptLanguage } from './config-types.ts';

interface LanguageFacts {
  /** Names that a configuration may use beside the language's own. */
  readonly aliases: readonly string[];
  readonly files: RegExp;
  /** Of code that comes without a file's name. */
  readonly ending: string;
  /** `script`: bundled, evaluated and captured in an executor. The others are built by a builder process. */
  readonly builtFrom: 'script' | 'source' | 'module';
}

/** The first whose `files` fit names the language of a file. */
const LANGUAGES: Readonly<Record<Language, LanguageFacts>> = {
  wasm: { aliases: ['wasi'], files: /\.wasm$/, ending: 'wasm', builtFrom: 'module' },
  assemblyscript: { aliases: ['as'], files: /\.as\.ts$/, ending: 'as.ts', builtFrom: 'source' },
  python: { aliases: ['py'], files: /\.py$/, ending: 'py', builtFrom: 'source' },
  typescript: { aliases: ['ts'], files: /\.[cm]?tsx?$/, ending: 'ts', builtFrom: 'script' },
  javascript: { aliases: ['js'], files: /\.[cm]?jsx?$/, ending: 'js', builtFrom: 'script' },
};

export const LANGUAGE_NAMES = Object.keys(LANGUAGES) as readonly Language[];

/** Undefined for a name that no language has. */
export function languageNamed(name: unknown): Language | undefined {
  return LANGUAGE_NAMES.find(
    (language) => language === name || LANGUAGES[language].aliases.some((one) => one === name),
  );
}

export function languageOfFile(fileName: string | undefined): Language | undefined {
  return fileName === undefined ? undefined : LANGUAGE_NAMES.find((one) => LANGUAGES[one].files.test(fileName));
}

/** What is left of a file's name without the ending of its language. */
export function withoutEnding(fileName: string): string {
  const language = languageOfFile(fileName);
  return language === undefined ? fileName : fileName.replace(LANGUAGES[language].files, '');
}

/** What code that comes without a file's name is called. */
export function languageFile(name: string, language: Language): string {
  return `${name}.${LANGUAGES[language].ending}`;
}

export function isScript(language: Language): language is ScriptLanguage {
  return LANGUAGES[language].builtFrom === 'script';
}

/** Deployed as bytes, not as text. */
export function isModule(language: Language): boolean {
  return LANGUAGES[language].builtFrom === 'module';
}
