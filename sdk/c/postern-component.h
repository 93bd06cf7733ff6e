/*
 * The world `function` of wit/function.wit for a component in C: its handler, and the imports that most functions need. Include
 * it in one file, which defines `handler`; all of the world is what `wit-bindgen c` makes.
 *
 * Compile as a reactor, then: wasm-tools component embed, wasm-tools component new. See docs/components.md.
 */
#ifndef POSTERN_COMPONENT_H
#define POSTERN_COMPONENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* UTF-8, with no zero at its end. */
typedef struct {
  char *at;
  size_t length;
} postern_text;

/* What a host function refuses or fails with. The code is an SQLSTATE or a word such as HTTP_NOT_ALLOWED. */
typedef struct {
  postern_text name, message, code;
} postern_error;

typedef enum { POSTERN_DEBUG, POSTERN_INFO, POSTERN_WARN, POSTERN_ERROR } postern_level;

/* Yours: from the event, JSON text, to the answer, JSON text as well. Where it returns false the answer is why it failed. */
bool handler(postern_text event, postern_text *answer);

static inline postern_text postern_text_of(const char *string) {
  return (postern_text){(char *)string, strlen(string)};
}

#define POSTERN_IMPORT(interface, function) \
  __attribute__((import_module("postern:function/" interface "@0.1.0"), import_name(function)))

typedef struct {
  uint8_t is_error;
  union {
    postern_text answer;
    postern_error error;
  };
} postern_result;

POSTERN_IMPORT("database", "query")
void postern_import_query(const char *sql, size_t sql_length, const char *params, size_t params_length, postern_result *);
POSTERN_IMPORT("logging", "log")
void postern_import_log(int level, const char *message, size_t length, const char *fields, size_t fields_length);
POSTERN_IMPORT("environment", "get")
void postern_import_env(const char *name, size_t length, postern_result *);

/* One statement; params is a JSON array. Where it returns true the answer is {"fields":…,"rows":…,"rowCount":…}. */
static inline bool postern_query(const char *sql, const char *params, postern_text *answer, postern_error *error) {
  postern_result result;
  postern_import_query(sql, strlen(sql), params, strlen(params), &result);
  if (result.is_error)
    *error = result.error;
  else
    *answer = result.answer;
  return !result.is_error;
}

/* A line of the log. */
static inline void postern_log(postern_level level, const char *message) {
  postern_import_log(level, message, strlen(message), "", 0);
}

/* A variable or secret that the function's env lists: false where it does not. */
static inline bool postern_env(const char *name, postern_text *value) {
  postern_result result;
  postern_import_env(name, strlen(name), &result);
  if (result.is_error) *value = result.answer;
  return result.is_error;
}

/* The canonical ABI from here on: what the component's caller finds. */

__attribute__((export_name("cabi_realloc"))) void *postern_realloc(void *old, size_t old_size, size_t align,
                                                                          size_t size) {
  (void)old_size, (void)align;
  if (size == 0) return (void *)1;
  void *room = realloc(old, size);
  if (room == NULL) abort();
  return room;
}

__attribute__((export_name("handler"))) postern_result *postern_export_handler(char *event, size_t length) {
  static postern_result result;
  result.is_error = !handler((postern_text){event, length}, &result.answer);
  return &result;
}

#endif
