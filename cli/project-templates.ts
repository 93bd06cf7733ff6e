/** What `postern init` writes, by language: template -> its place in the project. */

interface Project {
  /** Whether servers take functions of this language; only such a project is offered. */
  readonly deployable: boolean;
  readonly files: Readonly<Record<string, string>>;
}

/** Without its dot: npm renames the dotted one when it packs. */
const GITIGNORE = { 'gitignore.tmpl': '.gitignore' };
const WITH_SCHEMA = { ...GITIGNORE, 'README.md.tmpl': 'README.md' };
const PLAIN = { 'plain-package.json.tmpl': 'package.json', ...GITIGNORE, 'plain-README.md.tmpl': 'README.md' };

export const PROJECTS = {
  typescript: {
    deployable: true,
    files: {
      'typescript/package.json.tmpl': 'package.json',
      'typescript/tsconfig.json.tmpl': 'tsconfig.json',
      ...WITH_SCHEMA,
      'typescript/functions/hello.ts.tmpl': 'functions/hello.ts',
      'typescript/functions/welcome.ts.tmpl': 'functions/welcome.ts',
      'schema.sql.tmpl': 'functions/schema.sql',
    },
  },
  javascript: {
    deployable: true,
    files: {
      'javascript/package.json.tmpl': 'package.json',
      'javascript/tsconfig.json.tmpl': 'tsconfig.json',
      ...WITH_SCHEMA,
      'javascript/functions/hello.js.tmpl': 'functions/hello.js',
      'javascript/functions/welcome.js.tmpl': 'functions/welcome.js',
      'schema.sql.tmpl': 'functions/schema.sql',
    },
  },
  python: {
    deployable: true,
    files: {
      ...PLAIN,
      'python/functions/hello.py.tmpl': 'functions/hello.py',
      'python/functions/hello.function.jsonc.tmpl': 'functions/hello.function.jsonc',
    },
  },
  assemblyscript: {
    deployable: true,
    files: {
      ...PLAIN,
      'assemblyscript/functions/hello.as.ts.tmpl': 'functions/hello.as.ts',
      'assemblyscript/functions/hello.function.jsonc.tmpl': 'functions/hello.function.jsonc',
    },
  },
  c: {
    deployable: true,
    files: {
      'c/package.json.tmpl': 'package.json',
      ...GITIGNORE,
      'c/README.md.tmpl': 'README.md',
      'c/functions/hello.c.tmpl': 'functions/hello.c',
      'c/functions/hello.function.jsonc.tmpl': 'functions/hello.function.jsonc',
    },
  },
} as const satisfies Record<string, Project>;

export type ProjectLanguage = keyof typeof PROJECTS;

export const DEFAULT_LANGUAGE: ProjectLanguage = 'typescript';
export const OFFERED_LANGUAGES: readonly ProjectLanguage[] = (Object.keys(PROJECTS) as ProjectLanguage[]).filter(
  (language) => PROJECTS[language].deployable,
);
