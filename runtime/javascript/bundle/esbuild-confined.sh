#!/bin/sh
# Starts esbuild for hostile sources: it can open no file, its memory is bounded, nothing of our environment reaches it.
#
# esbuild resolves `import('./' + name)` by walking directories of the machine that it runs on, before any plugin is
# asked, and has no option against it. With every descriptor that it may have already taken, open(2) fails before the
# path is looked at. GOMAXPROCS and TZ are given because Go would open files to find them out.
exec 2>/dev/null
# Not every system bounds the address space (macOS does not); the descriptors are what must hold.
ulimit -v "$POSTERN_ESBUILD_KILOBYTES"
ulimit -n "$POSTERN_ESBUILD_DESCRIPTORS" || exit 1
exec env -i GOMAXPROCS=2 TZ= "$POSTERN_ESBUILD_BINARY" "$@"
