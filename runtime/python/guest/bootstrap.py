# Runs once, in the interpreter that all functions start from (runtime/python/interpreter.ts). What it leaves behind are
# two functions that the host calls: one runs a function's module at deploy, the other runs an invocation.
#
# File descriptor 0 is the channel to the host: what the host gives is read from it, and JSON lines that are written to
# it are calls of host functions. 1 and 2 are the log.

import binascii
import gc
import importlib.machinery
import io
import json
import linecache
import logging
import math
import os
import random
import struct
import sys
import time
import traceback
import types
import weakref
import zipimport
import zlib

# CPython takes the nanoseconds of WASI's `times` for hundredths of a second. There is one clock of time that has passed.
time.process_time, time.process_time_ns = time.monotonic, time.monotonic_ns


def times():
    passed = time.monotonic()
    return os.times_result((passed, 0.0, 0.0, 0.0, passed))


os.times = times

CHANNEL = 0
# Where the host has the standard library's archive, behind what it gives (runtime/python/python-sandbox.ts).
ARCHIVE_AT = 1 << 40
MAX_NAME, MAX_MESSAGE, MAX_TRACE = 200, 8_000, 16_000
MAX_DEPTH = 50


def read_exactly(size, at):
    parts = []
    while size > 0:
        part = os.pread(CHANNEL, size, at)
        if not part:
            raise EOFError('the host gave less than it said')
        parts.append(part)
        size -= len(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b''.join(parts)


def receive():
    """Two messages, which stand behind their lengths: read at their places, which suspends nobody."""
    first, second = struct.unpack('<II', read_exactly(8, 0))
    return read_exactly(first, 8), read_exactly(second, 8 + first)


# The standard library ----------------------------------------------------------------------------------------------------

# Once the interpreter is captured, its archive is no longer in the memory. Its directory is.


def read_library(archive, entry):
    _, method, size, _, at, *_ = entry
    at += ARCHIVE_AT
    header = read_exactly(30, at)
    data = read_exactly(size, at + 30 + sum(struct.unpack_from('<HH', header, 26)))
    return data if method == 0 else zlib.decompress(data, -zlib.MAX_WBITS)


zipimport._get_data = read_library
zipimport.zipimporter.invalidate_caches = lambda self: None


# The module `postern` --------------------------------------------------------------------------------------------------


def load_library(source):
    module = types.ModuleType('postern')
    module.__file__ = '<postern>'
    sys.modules['postern'] = module
    exec(compile(source, '<postern>', 'exec'), module.__dict__)
    return module


postern = load_library(sys.argv[1])
EVENT_LOOP = compile(sys.argv[2], '<postern>', 'exec')
sys.argv = ['']


def load_event_loop():
    """asyncio is a tenth of an interpreter, so functions that have no use for it do without."""
    if Function.complete is None:
        namespace = {}
        exec(EVENT_LOOP, namespace)
        Function.complete = namespace['complete']


# Randomness --------------------------------------------------------------------------------------------------------------

# Generators that seeded themselves: from the memory that they are in they would go on alike in every invocation.
unseeded = weakref.WeakSet()
seed_random = random.Random.seed


def seed(self, a=None, version=2):
    if a is None:
        unseeded.add(self)
        if not postern._state.invoking:
            return seed_random(self, 0)
    else:
        unseeded.discard(self)
    return seed_random(self, a, version)


random.Random.seed = seed
random.seed = random._inst.seed
unseeded.add(random._inst)


def reseed():
    for generator in list(unseeded):
        seed_random(generator, int.from_bytes(os.urandom(32), 'little'))
        generator.gauss_next = None


class RandomImporter:
    """Seeding costs a quarter of a millisecond: functions that don't import `random` do without."""

    imported = False

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == 'random' else None

    def create_module(self, spec):
        return random

    def exec_module(self, module):
        RandomImporter.imported = True
        if postern._state.invoking:
            reseed()


del sys.modules['random']
sys.meta_path.insert(0, RandomImporter())


# A function's modules ----------------------------------------------------------------------------------------------------


class Refusal(Exception):
    """What a deploy is refused with, in our own words."""

    def __init__(self, message, file=None, line=None):
        super().__init__(message)
        self.file = file
        self.line = line


class TooDeep(Refusal):
    """Or too large for the memory: the host knows."""


class Dependencies:
    """Modules of which there is only the text."""

    def __init__(self, sources):
        self.sources = sources

    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        is_package = any(other.startswith(name + '.') for other in self.sources)
        return importlib.machinery.ModuleSpec(name, self, origin=name + '.py', is_package=is_package)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__
        module.__file__ = name + '.py'
        exec(compile_source(self.sources[name], name + '.py'), module.__dict__)


# Of the function and its dependencies.
source_files = set()


def compile_source(source, file):
    source_files.add(file)
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    try:
        return compile(source, file, 'exec', dont_inherit=True)
    except (MemoryError, RecursionError):
        # The parser says MemoryError where its stack is full, too.
        raise TooDeep('the source is nested too deeply to be compiled', file) from None


def check_dependencies(sources):
    for name in sources:
        if not all(part.isidentifier() for part in name.split('.')):
            raise Refusal(f'dependency {name!r} can not be imported: a name is made of letters, digits and _')
        first = name.partition('.')[0]
        if first == 'postern' or first in sys.stdlib_module_names or first in sys.builtin_module_names:
            raise Refusal(f'dependency {name!r} has the name of a module that every function has')
        parent = name.rpartition('.')[0]
        if parent and parent not in sources:
            raise Refusal(f'dependency {name!r} needs a dependency {parent!r}, the package that it is in')


CO_VARARGS = 0x04


def positional_parameters(function):
    """How many of event and context it takes; of what has no code of its own, both."""
    bound = isinstance(function, types.MethodType)
    code = getattr(function, '__code__', None)
    if code is None:
        return 2
    most = code.co_argcount - bound
    least = most - len(function.__defaults__ or ())
    if code.co_flags & CO_VARARGS or least <= 2 <= most:
        return 2
    return 1 if least <= 1 <= most else None


class Function:
    handler = None
    parameters = 2
    complete = None
    # Of the last invocation; the host has a reference of its own.
    answer = None


def define(request):
    name, file = request['handler'], request['fileName']
    check_dependencies(request['dependencies'])
    sys.meta_path.insert(0, Dependencies(request['dependencies']))
    module = types.ModuleType(file.rpartition('/')[2].removesuffix('.py').replace('-', '_'))
    module.__file__ = file
    sys.modules[module.__name__] = module
    exec(compile_source(request['source'], file), module.__dict__)
    handler = getattr(module, name, None)
    names = [key for key, value in vars(module).items() if callable(value) and not key.startswith('_')]
    if not callable(handler):
        defined = ', '.join(sorted(names)[:20]) or 'no function'
        problem = f'{name!r} is not a function' if hasattr(module, name) else f'the module defines no {name!r}'
        raise Refusal(f'{problem}; it defines {defined}', file)
    parameters = positional_parameters(handler)
    if parameters is None:
        raise Refusal(f'{name!r} has to take (event) or (event, context)', file, line_of(handler))
    Function.handler, Function.parameters = handler, parameters
    if any('async' in text for text in (request['source'], *request['dependencies'].values())):
        load_event_loop()
    config = getattr(module, 'config', None)
    return {'configJson': json.dumps(config) if isinstance(config, dict) else None, 'names': names}


def line_of(function):
    code = getattr(function, '__code__', None)
    return None if code is None else code.co_firstlineno


def build():
    """Called by the host, once: answers with JSON text."""
    try:
        request, _ = receive()
        answer = {'definition': define(json.loads(request))}
    except BaseException as error:
        answer = {'error': refusal(error)}
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()
    gc.freeze()
    return json.dumps(answer).encode()


def refusal(error):
    described = describe(error)
    place = {'file': None, 'line': None, 'column': None}
    if isinstance(error, Refusal):
        return {**place, 'refused': str(error), 'file': error.file, 'line': error.line, 'text': excerpt(error.file, error.line)}
    if isinstance(error, SyntaxError) and error.filename in source_files:
        described['message'] = error.msg
        place = {'file': error.filename, 'line': error.lineno, 'column': error.offset}
    else:
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename in source_files:
                place = {'file': frame.f_code.co_filename, 'line': line, 'column': None}
    return {**place, **described, 'text': excerpt(place['file'], place['line'])}


def excerpt(file, line):
    return linecache.getline(file, line).rstrip('\n')[:200] if file and line else ''


# An invocation -----------------------------------------------------------------------------------------------------------

OWN_FILES = frozenset(['<string>', '<postern>'])
# Where the machine lay that compiled the standard library.
LIBRARY = json.loads.__code__.co_filename.removesuffix('json/__init__.py')


def is_own(file):
    return file in OWN_FILES or file.startswith('<frozen ') or '/asyncio/' in file


def describe(error):
    """What is known of an exception: name, message, and the traceback without our own frames."""
    try:
        message = str(error)
    except BaseException:
        message = 'an exception that can not be described'
    try:
        stack = ''.join(summarize(error).format())
    except BaseException:
        stack = ''
    return {'name': type(error).__name__[:MAX_NAME], 'message': message[:MAX_MESSAGE], 'stack': stack[:MAX_TRACE]}


def extras(error):
    """What the author's exception says beyond its text."""
    said = {}
    try:
        if isinstance(getattr(error, 'code', None), str):
            said['code'] = error.code[:MAX_NAME]
        if getattr(error, 'retry', None) is False:
            said['retry'] = False
        after = getattr(error, 'retry_after_ms', None)
        if isinstance(after, (int, float)) and math.isfinite(after):
            said['retryAfterMs'] = after
    except BaseException:
        pass
    return said


def summarize(error):
    summary = traceback.TracebackException.from_exception(error)
    seen = set()
    todo = [summary]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        shown = [frame for frame in one.stack if not is_own(frame.filename)]
        for frame in shown:
            if frame.filename.startswith(LIBRARY):
                frame.filename = 'python3.12/' + frame.filename[len(LIBRARY):]
        one.stack = traceback.StackSummary.from_list(shown)
        todo += [one.__cause__, one.__context__]
    return summary


# `json.loads` without what it does for texts of unknown encoding, a third of its time for a short one.
scan_json = json.JSONDecoder().scan_once
encode_json = json.JSONEncoder(separators=(',', ':'), ensure_ascii=False, allow_nan=False).encode


def to_json(value):
    text = encode_json(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(',', ':'), allow_nan=False).encode()


def answer_of(value):
    is_response = isinstance(value, dict) and 'statusCode' in value
    try:
        if is_response and isinstance(value.get('body'), (bytes, bytearray)):
            value = {**value, 'body': binascii.b2a_base64(value['body'], newline=False).decode(), 'isBase64Encoded': True}
        body = to_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        message = f'the handler returned what JSON can not say: {problem_in(value) or error}'
        return b'I' + to_json({'message': message[:MAX_MESSAGE]})
    return (b'S' if is_response else b'V') + body


def problem_in(value, path='result', depth=0):
    """Where the first value is that has no JSON form."""
    if depth > MAX_DEPTH:
        return f'{path} is nested too deeply, or in itself'
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, float, bool, type(None))):
                return f'{path} has a key of type {type(key).__name__}'
            found = problem_in(item, f'{path}[{key!r:.100}]', depth + 1)
            if found:
                return found
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            found = problem_in(item, f'{path}[{index}]', depth + 1)
            if found:
                return found
    elif isinstance(value, float) and not math.isfinite(value):
        return f'{path} is {value}'
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        return f'{path} is of type {type(value).__name__}'
    return None


def invoke():
    """Called by the host: answers with a letter for the kind of the end, and JSON text."""
    try:
        event, meta = receive()
        context = postern._begin(meta)
        if RandomImporter.imported:
            reseed()
        event = scan_json(event.decode().lstrip(), 0)[0]
        handler = Function.handler
        result = handler(event) if Function.parameters == 1 else handler(event, context)
        if hasattr(result, '__await__'):
            load_event_loop()
            result = Function.complete(result)
        answer = answer_of(result)
    except BaseException as error:
        answer = b'E' + to_json({**describe(error), **extras(error)})
    flush()
    Function.answer = answer
    return answer


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


# Sessions ----------------------------------------------------------------------------------------------------------------

STREAMS = sys.stdout, sys.stderr
# Text and bytes have headers, so that none lies in a smaller piece. Up to 512 bytes each size has its own pools.
HEADER = bytes.__basicsize__
PIECES = 65_536, 16_384, 4_096, 1_024, 520, *range(512, 16, -8)
ZEROS = bytes(io.DEFAULT_BUFFER_SIZE)
# Made now: it may have to do with what memory there is.
SIZES = tuple(size - HEADER for size in PIECES)
COLUMNS = tuple(range(256))
SHELVES = tuple([None] * len(COLUMNS) for _ in range(128))


def rest():
    """Called by the host after an invocation from whose memory others go on: of its own there is to be nothing in it."""
    postern._end()
    Function.answer = None
    gc.collect()
    for stream in STREAMS:
        # What was printed last. The host does not listen now.
        stream.buffer.write(ZEROS)
        stream.buffer.flush()
    overwrite_free_memory()


def overwrite_free_memory():
    """What is freed keeps its content. Takes all that can be had while the host lets the memory not grow, and gives it back."""
    frame_size = take_free_memory()
    # The frame that its exceptions knew lay in memory that was not overwritten yet, and most of a frame is never written.
    overwritten = bytes(frame_size - HEADER)
    for shelf in SHELVES:
        for column in COLUMNS:
            if shelf[column] is None:
                return
            shelf[column] = None


def take_free_memory():
    frame_size = sys.getsizeof(sys._getframe())
    sizes = iter(SIZES)
    size = next(sizes)
    for shelf in SHELVES:
        for column in COLUMNS:
            while size is not None and shelf[column] is None:
                try:
                    shelf[column] = bytes(size)
                except MemoryError:
                    size = next(sizes, None)
    return frame_size


# What stays ----------------------------------------------------------------------------------------------------------------

for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(encoding='utf-8', errors='backslashreplace', line_buffering=True)
sys.stdin = sys.__stdin__ = None
sys.dont_write_bytecode = True

logging.basicConfig(handlers=[postern._LogHandler()], level=logging.INFO, format='%(message)s')
logging.raiseExceptions = False

# What a first exception, result and traceback set up, they set up here.
try:
    raise ValueError('warm')
except ValueError as warm:
    describe(warm)
answer_of({'statusCode': 200, 'body': 'ü'})
json.loads('{"a":[1,2.5,"b",null,true]}')

gc.collect()
gc.freeze()
os.write(CHANNEL, json.dumps({'build': id(build), 'invoke': id(invoke), 'rest': id(rest)}).encode())
# Here the host takes the interpreter's memory, by an exception through this call.
time.clock_getres(time.CLOCK_MONOTONIC)
