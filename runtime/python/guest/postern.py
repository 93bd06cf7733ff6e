"""What a function may ask of the host: db, http, env, log. Plain calls, which wait."""

import base64
import collections.abc
import datetime
import decimal
import json as _json
import logging
import math
import os
import time
import traceback
import uuid

__all__ = [
    'db', 'env', 'http', 'log', 'Context', 'HostError', 'DatabaseError', 'HttpError', 'HttpNotAllowedError', 'LimitError',
    'NonRetryableError', 'RateLimitError', 'RetryAfterError', 'SqlNotAllowedError',
]

_CHANNEL = 0
_MAX_LINE = 8_000
_MAX_FIELDS = 6_000


class _State:
    invoking = False
    meta_json = b'{}'
    meta = None

    def read_meta(self):
        if self.meta is None:
            self.meta = _json.loads(self.meta_json)
        return self.meta


_state = _State()


class HostError(Exception):
    """A host function's refusal: `code`, `message`, and further facts in `details`."""

    def __init__(self, message='', code=None, details=None):
        super().__init__(message)
        self.message = message
        self.code = code
        self.details = details or {}


class DatabaseError(HostError):
    """Of Postgres: `code` is the SQLSTATE."""


class SqlNotAllowedError(HostError):
    """The statement is none that a function may run."""


class LimitError(HostError):
    """Over a limit of a host function."""


class HttpError(HostError):
    """The request failed."""


class HttpNotAllowedError(HostError):
    """The address is not in the function's http.allow."""


class RateLimitError(HostError):
    """Over the function's http.rateLimit."""


class NonRetryableError(Exception):
    """Raised by a handler: the event is not tried again."""

    retry = False


class RetryAfterError(Exception):
    """Raised by a handler: the event is tried again, but not before so many milliseconds have passed."""

    def __init__(self, message, retry_after_ms):
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


_ERRORS = {
    error.__name__: error
    for error in (DatabaseError, SqlNotAllowedError, LimitError, HttpError, HttpNotAllowedError, RateLimitError)
}


def _call(operation, payload, dumps=_json.JSONEncoder(separators=(',', ':'), allow_nan=False).encode):
    if not _state.invoking:
        raise RuntimeError(f'{operation} can not be called at the top level of the module')
    text = dumps(payload)
    _write(f'{{"op":"{operation}"{"}" if text == "{}" else "," + text[1:]}\n'.encode())
    answer = _json.loads(_read_line())
    if answer['ok']:
        return answer['value']
    raise _error_from(answer['error'])


def _write(data):
    view = memoryview(data)
    while view:
        view = view[os.write(_CHANNEL, view):]


def _read_line():
    parts = []
    while True:
        part = os.read(_CHANNEL, 65_536)
        if not part:
            raise EOFError('the host has no answer')
        parts.append(part)
        if part.endswith(b'\n'):
            return b''.join(parts)


def _error_from(record):
    name, message, code = record.pop('name', None), record.pop('message', ''), record.pop('code', None)
    if name == 'TypeError':
        return TypeError(message)
    return _ERRORS.get(name, HostError)(message, code, record)


# db ------------------------------------------------------------------------------------------------------------------------


class Rows(list):
    """A list of dicts, with `row_count` and `fields` (name and type of each column)."""

    row_count = None
    fields = ()


class _JsonParameter:
    def __init__(self, value):
        self.value = value


class _Db:
    def query(self, sql, params=()):
        """One statement, a transaction of its own; $1, $2 … stand for the params."""
        return _query(sql, params, None)

    def transaction(self):
        """`with db.transaction() as tx: tx.query(…)` commits at the end, and rolls back at an exception."""
        return _Transaction()

    def json(self, value):
        """Marks a parameter as json: for lists and strings in json columns."""
        return _JsonParameter(value)


class _Transaction:
    _id = None

    def __enter__(self):
        self._id = _call('db.begin', {})['tx']
        return self

    def query(self, sql, params=()):
        if self._id is None:
            raise RuntimeError('the transaction is not open: use it inside of its with statement')
        return _query(sql, params, self._id)

    def __exit__(self, kind, error, trace):
        handle, self._id = {'tx': self._id}, None
        if kind is None:
            _call('db.commit', handle)
            return
        try:
            _call('db.rollback', handle)
        except HostError:
            # The function's own error is the one to see, also where the connection is gone.
            pass


def _query(sql, params, transaction):
    if not isinstance(sql, str):
        raise TypeError('db.query: the first argument has to be SQL text')
    if isinstance(params, (str, bytes, dict)) or not isinstance(params, collections.abc.Iterable):
        raise TypeError('db.query: params has to be a list')
    payload = {'sql': sql, 'params': [_parameter(value, f'${index}', 0) for index, value in enumerate(params, 1)]}
    if transaction is not None:
        payload['tx'] = transaction
    return _rows(_call('db.query', payload))


def _parameter(value, what, depth):
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if -(2**53) < value < 2**53 else {'$': 'bigint', 'v': str(int(value))}
    if isinstance(value, float):
        return value if math.isfinite(value) else {'$': 'number', 'v': _number_name(value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {'$': 'bytes', 'v': base64.b64encode(value).decode()}
    if isinstance(value, _JsonParameter):
        return {'$': 'json', 'v': value.value}
    if isinstance(value, dict):
        return {'$': 'json', 'v': value}
    if isinstance(value, (list, tuple)):
        if depth > 16:
            raise TypeError(f'db.query: parameter {what} is nested too deeply')
        return [_parameter(item, what, depth + 1) for item in value]
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return f'{value / datetime.timedelta(microseconds=1):.0f} microseconds'
    raise TypeError(f'db.query: parameter {what} is a {type(value).__name__}, which has no SQL form')


def _number_name(value):
    return 'NaN' if math.isnan(value) else 'Infinity' if value > 0 else '-Infinity'


def _rows(answer):
    names = [name for name, _ in answer['fields']]
    byte_columns = [index for index, (_, kind) in enumerate(answer['fields']) if kind in ('bytea', 'bytea[]')]
    rows = Rows()
    for values in answer['rows']:
        for index in byte_columns:
            values[index] = _bytes(values[index])
        rows.append(dict(zip(names, values)))
    rows.row_count = answer['rowCount']
    rows.fields = [{'name': name, 'type': kind} for name, kind in answer['fields']]
    return rows


def _bytes(value):
    if value is None:
        return None
    return base64.b64decode(value) if isinstance(value, str) else [_bytes(item) for item in value]


# http ----------------------------------------------------------------------------------------------------------------------


class Headers(dict):
    """By names in lower case; a header that came more than once has its values joined."""

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def __contains__(self, name):
        return super().__contains__(name.lower())

    def get(self, name, default=None):
        return super().get(name.lower(), default)


class Response:
    def __init__(self, answer):
        self.status = answer['status']
        self.reason = answer['statusText']
        self.url = answer['url']
        self.redirected = answer['redirected']
        self.content = base64.b64decode(answer['bodyBase64'])
        self.headers = Headers()
        for name, value in answer['headers']:
            name = name.lower()
            known = self.headers.get(name)
            self.headers[name] = value if known is None else f'{known}, {value}'

    @property
    def ok(self):
        return 200 <= self.status < 300

    @property
    def text(self):
        return self.content.decode('utf-8', 'replace')

    def json(self):
        return _json.loads(self.content)

    def __repr__(self):
        return f'<Response {self.status} {self.url}>'


class _Http:
    def fetch(self, url, method=None, headers=None, body=None, json=None, redirect='follow'):
        """Waits for the answer. `body` is text or bytes; `json` any value, sent with its content type."""
        if body is not None and json is not None:
            raise TypeError('http.fetch: give body or json, not both')
        pairs = [[str(name), str(value)] for name, value in (headers.items() if hasattr(headers, 'items') else headers or ())]
        if json is not None:
            body = _json.dumps(json)
            if not any(name.lower() == 'content-type' for name, _ in pairs):
                pairs.append(['content-type', 'application/json'])
        if isinstance(body, str):
            body = body.encode()
        answer = _call('http.fetch', {
            'url': str(url),
            'method': method or ('GET' if body is None else 'POST'),
            'headers': pairs,
            'bodyBase64': None if body is None else base64.b64encode(body).decode(),
            'redirect': redirect,
        })
        return Response(answer)


# env -----------------------------------------------------------------------------------------------------------------------


class _Env(collections.abc.Mapping):
    """The variables and secrets that the function's `env` lists: env['NAME'], env.get('NAME'), env('NAME')."""

    def __getitem__(self, name):
        return _variables()[name]

    def __iter__(self):
        return iter(_variables())

    def __len__(self):
        return len(_variables())

    def __call__(self, name):
        return self.get(name)

    def __repr__(self):
        return f'<env {", ".join(self) if _state.invoking else ""}>'


def _variables():
    if not _state.invoking:
        raise RuntimeError('env can not be used at the top level of the module')
    return _state.read_meta()['env']


# log -----------------------------------------------------------------------------------------------------------------------


class _Log:
    def debug(self, message, *args, **fields):
        _log('debug', message, args, fields)

    def info(self, message, *args, **fields):
        _log('info', message, args, fields)

    def warn(self, message, *args, **fields):
        _log('warn', message, args, fields)

    warning = warn

    def error(self, message, *args, **fields):
        _log('error', message, args, fields)


def _log(level, message, args, fields):
    """`log.info('paid', {'amount': 5})` and `log.info('paid', amount=5)` are the same line."""
    for more in args:
        fields = {**more, **fields} if isinstance(more, dict) else {'value': more, **fields}
    text = message if isinstance(message, str) else _text(message)
    _cast(level, text, fields)


def _text(value):
    return ''.join(traceback.format_exception(value)) if isinstance(value, BaseException) else str(value)


def _cast(level, message, fields):
    if not _state.invoking:
        return
    line = {'level': level, 'message': message if len(message) <= _MAX_LINE else message[:_MAX_LINE] + '…'}
    if fields:
        text = _json.dumps(fields, default=_text, skipkeys=True)
        line['fields'] = fields if len(text) <= _MAX_FIELDS else {'truncated': text[:_MAX_FIELDS]}
    _write(b'{"op":"log",' + _json.dumps(line, default=_text, skipkeys=True).encode()[1:] + b'\n')


class _LogHandler(logging.Handler):
    """Of the root logger: what `logging` is told goes where `log` goes."""

    _EXTRA = frozenset(vars(logging.makeLogRecord({}))) | {'message', 'asctime', 'taskName'}

    def emit(self, record):
        level = (
            'error' if record.levelno >= logging.ERROR
            else 'warn' if record.levelno >= logging.WARNING
            else 'info' if record.levelno >= logging.INFO
            else 'debug'
        )
        fields = {name: value for name, value in vars(record).items() if name not in self._EXTRA}
        if record.name != 'root':
            fields['logger'] = record.name
        _cast(level, self.format(record), fields)


# The invocation --------------------------------------------------------------------------------------------------------------


_NAMES = {
    'function_name': 'functionName',
    'function_version': 'version',
    'invocation_id': 'invocationId',
    'request_id': 'requestId',
    'attempt': 'attempt',
    'user_id': 'userId',
    'role': 'role',
}


class Context:
    """What is known of the invocation: function_name, function_version, invocation_id, request_id, attempt, user_id, role, env."""

    def __getattr__(self, name):
        if name not in _NAMES:
            raise AttributeError(f'the context has no {name!r}; it has {", ".join(_NAMES)}, env, remaining_time_ms()')
        return _state.read_meta().get(_NAMES[name])

    @property
    def env(self):
        return env

    def remaining_time_ms(self):
        """Milliseconds until the invocation is ended."""
        meta, now = _state.read_meta(), time.time() * 1000
        if meta.get('deadline') is None:
            # What is told nothing that differs from run to run. It does, from here on.
            meta['deadline'] = now + meta.get('timeoutMs', 0)
        return max(0, int(meta['deadline'] - now))


_context = Context()


def _begin(meta):
    """meta: JSON as the host writes it. Most functions look at nothing of it, so it is parsed when one does."""
    _state.meta_json = meta
    _state.meta = None
    _state.invoking = True
    if b'"env":{}' not in meta:
        os.environ.update(_state.read_meta()['env'])
    return _context


def _end():
    """Nothing that `_begin` was told is here any more, but for what the function has taken of it."""
    for name, value in _state.read_meta().get('env', {}).items():
        if os.environ.get(name) == value:
            del os.environ[name]
    _state.meta_json = b'{}'
    _state.meta = None
    _state.invoking = False


db = _Db()
http = _Http()
env = _Env()
log = _Log()
