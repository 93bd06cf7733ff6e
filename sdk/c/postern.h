/*
 * Postern's host functions for C and C++, as WASI preview 1 commands (docs/webassembly.md).
 *
 *   char *rows = postern_call("{\"op\":\"db.query\",\"sql\":\"select 1 as one\",\"params\":[]}");
 *   // {"ok":true,"value":{"fields":[["one","int4"]],"rows":[[1]],"rowCount":1}}
 *   free(rows);
 *
 * One request is one JSON text that begins with its "op"; the answer is {"ok":true,"value":...} or
 * {"ok":false,"error":{"name":...,"message":...}}. Define POSTERN_USE_FD to talk over file descriptor 3 instead of
 * importing functions, for toolchains that can not import.
 */
#ifndef POSTERN_H
#define POSTERN_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef POSTERN_USE_FD

/* Makes the call and waits for its answer. Returns the answer's length; the answer is kept until it is taken. */
__attribute__((import_module("postern"), import_name("call"))) extern uint32_t
postern_import_call(const char *request, uint32_t length);

/* Writes the last answer to `answer`, and forgets it. */
__attribute__((import_module("postern"), import_name("take"))) extern void postern_import_take(char *answer);

/* The answer to `request`, ended by a zero byte; the caller frees it. NULL without memory for it. */
static inline char *postern_call(const char *request) {
  uint32_t length = postern_import_call(request, (uint32_t)strlen(request));
  char *answer = (char *)malloc((size_t)length + 1);
  if (answer == NULL) return NULL;
  postern_import_take(answer);
  answer[length] = 0;
  return answer;
}

#else

#include <unistd.h>

#define POSTERN_FD 3

static inline int postern_write_all(const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(POSTERN_FD, bytes, length);
    if (written <= 0) return -1;
    bytes += written;
    length -= (size_t)written;
  }
  return 0;
}

/* The answer to `request`, which has no newline in it, ended by a zero byte; the caller frees it. NULL on failure. */
static inline char *postern_call(const char *request) {
  if (postern_write_all(request, strlen(request)) != 0 || postern_write_all("\n", 1) != 0) return NULL;
  size_t length = 0, room = 4096;
  char *answer = (char *)malloc(room);
  while (answer != NULL) {
    ssize_t got = read(POSTERN_FD, answer + length, room - length);
    if (got <= 0) break;
    length += (size_t)got;
    if (answer[length - 1] == '\n') {
      answer[length - 1] = 0;
      return answer;
    }
    if (length == room) {
      char *larger = (char *)realloc(answer, room *= 2);
      if (larger == NULL) break;
      answer = larger;
    }
  }
  free(answer);
  return NULL;
}

#endif

/* Whether an answer says that the call succeeded. */
static inline int postern_ok(const char *answer) {
  return answer != NULL && strncmp(answer, "{\"ok\":true", 10) == 0;
}

#ifdef __cplusplus
}
#endif

#endif
