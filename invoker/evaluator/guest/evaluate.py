# The function that /execute runs for Python: executes code in one module and answers with its value. What the code leaves
# in the module is there for the next one, where the memory is kept.

import ast
import importlib.machinery
import inspect
import linecache
import sys
import types

FILE = 'main.py'
MAX_TEXT = 10_000
main = types.ModuleType('__main__')
main.__file__ = FILE
sources = {}


class Given:
    """Modules of which there is only the text."""

    def find_spec(self, name, path=None, target=None):
        if name not in sources:
            return None
        is_package = any(other.startswith(name + '.') for other in sources)
        return importlib.machinery.ModuleSpec(name, self, origin=name + '.py', is_package=is_package)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        file = module.__name__ + '.py'
        module.__file__ = file
        source = sources[module.__name__]
        remember(source, file)
        exec(compile(source, file, 'exec', dont_inherit=True), module.__dict__)


sys.meta_path.insert(0, Given())


def remember(source, file):
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)


class AtTop(ast.NodeVisitor):
    """What stands at the top of a module, and not in a function or class of it."""

    def __init__(self):
        self.returns = False
        self.names = set()

    def visit_Return(self, node):
        self.returns = True
        self.generic_visit(node)

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.names.add(node.id)

    def visit_FunctionDef(self, node):
        self.names.add(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node):
        pass

    def visit_Import(self, node):
        for alias in node.names:
            self.names.add(alias.asname or alias.name.partition('.')[0])

    def visit_ImportFrom(self, node):
        for alias in node.names:
            self.names.add(alias.asname or alias.name)


def as_function(tree, names):
    """A module that returns is the body of a function, whose names are the module's."""
    body = ast.parse('def __run__():\n    pass').body[0]
    if names - {'*'}:
        body.body = [ast.Global(names=sorted(names - {'*'}))]
    else:
        body.body = []
    body.body += tree.body
    called = ast.Expression(ast.Call(ast.Name('__run__', ast.Load()), [], []))
    return ast.fix_missing_locations(ast.Module([body], [])), ast.fix_missing_locations(called)


def handler(event, context):
    value = None
    try:
        value = evaluate(event, context)
    finally:
        # Where the memory is kept, what a run was given is not.
        if not inspect.isawaitable(value):
            main.input = None
    return without_input(value) if inspect.isawaitable(value) else value


async def without_input(value):
    try:
        return await value
    finally:
        main.input = None


def evaluate(event, context):
    for name, source in event['modules'].items():
        if sources.get(name) != source:
            sources[name] = source
            sys.modules.pop(name, None)
    sys.modules['__main__'] = main
    main.input = event['input']
    remember(event['text'], FILE)
    parts, own = read(event['text'])
    # The event loop looks at the clock, so what awaits nothing goes without it.
    if any(part.co_flags & inspect.CO_COROUTINE for part in parts):
        return evaluate_async(parts, own, context)
    value = None
    for part in parts:
        value = eval(part, main.__dict__)
    return settled(value, own, context) if inspect.isawaitable(value) else result_of(value, own, context)


def read(text):
    """What is run, one after the other, and whether a handler is defined. Nothing has run where it raises."""
    try:
        tree = ast.parse(text, FILE)
        seen = AtTop()
        for statement in tree.body:
            seen.visit(statement)
        last = None
        if seen.returns:
            tree, last = as_function(tree, seen.names)
        elif tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        return [compiled(tree, 'exec')] + ([] if last is None else [compiled(last, 'eval')]), 'handler' in seen.names
    except SyntaxError as error:
        refusal, line, column = type(error)(error.msg), error.lineno, error.offset
    except (MemoryError, RecursionError):
        # The parser says MemoryError where its stack is full, too.
        refusal, line, column = SyntaxError('the code is nested too deeply, or needs too much memory to be read'), None, None
    # By it the host tells code that is none from code that raises.
    refusal.code = f'INVALID_CODE {line or 0} {column or 0}'
    raise refusal


def compiled(tree, mode):
    return compile(tree, FILE, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


async def evaluate_async(parts, own, context):
    value = None
    for part in parts:
        value = eval(part, main.__dict__)
        if part.co_flags & inspect.CO_COROUTINE:
            value = await value
    return await settled(value, own, context)


async def settled(value, own, context):
    value = result_of(await value if inspect.isawaitable(value) else value, own, context)
    return await value if inspect.isawaitable(value) else value


def result_of(value, own, context):
    """Of a run that defines a handler, what that gives back; else the last expression's value."""
    function = main.__dict__.get('handler') if own else None
    if callable(function):
        return function(*(main.input, context)[: parameters(function)])
    return shown(value)


def parameters(function):
    try:
        inspect.signature(function).bind(None, None)
        return 2
    except TypeError:
        return 1


def shown(value, depth=0):
    """What JSON can't say of a last expression is told as Python would print it."""
    if depth > 50:
        return repr(value)[:MAX_TEXT]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): shown(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return [shown(item, depth + 1) for item in value]
    return repr(value)[:MAX_TEXT]
