"""Run a notebook with each export cell replaced by an import of its names from the exported module.

A notebook's tests run in the notebook's own namespace, so by themselves they say nothing of the module.
Each cell has a time limit, which ends an endless loop: so long that no slow processor, and no busy one, meets it.

    python tests/run_modules.py nbs/05a_schedules.ipynb [--flags 'slow gpu'] [--limit 1800]
"""
import argparse, ast, builtins, json, multiprocessing, os, re, signal, sys, tempfile, traceback
from pathlib import Path

FLAGS = ('slow', 'gpu', 'record')

def bound_names(source:str) -> list:
    "The names that the top level of `source` binds, in order."
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)): names.append(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [a.asname or a.name.split('.')[0] for a in node.names]
        elif not isinstance(node, ast.Expr): names += _stored(node)
    return list(dict.fromkeys(names))

def _stored(node) -> list: # in order; a comprehension's variables are its own
    if isinstance(node, ast.Name): return [node.id] if isinstance(node.ctx, ast.Store) else []
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)): return []
    return [name for child in ast.iter_child_nodes(node) for name in _stored(child)]

def cells(path:Path, flags=()):
    "(number, source) of the code cells that are to be run, exports replaced."
    module = None
    for i, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
        if cell['cell_type'] != 'code': continue
        source = ''.join(cell['source'])
        directives = re.findall(r'^#\|\s*(\w+)\s*(\S*)', source, re.M)
        for name, value in directives:
            if name == 'default_exp': module = value
        names = {name for name, _ in directives}
        if names & set(FLAGS) - set(flags): continue
        if names & {'export', 'exports', 'exporti'}:
            if bound := bound_names(source): yield i, f'from minitrain.{module} import {", ".join(bound)}'
        else: yield i, source

def names_in(source) -> tuple: # names that it binds, names that it needs from elsewhere
    bound = set(bound_names(source))
    read = {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return bound, read - bound - set(dir(builtins))

def needed(cells:list, last:int) -> list: # places, in order, of the cells that number `last` needs, and its own
    want, chosen = names_in(cells[last])[1], [last]
    for i in range(last - 1, -1, -1):
        bound, read = names_in(cells[i])
        imports = all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(cells[i]).body)
        if imports or bound & want:           # the nearest that binds a name gives it
            chosen.append(i)
            want = want - bound | read
    return chosen[::-1]

class OutOfTime(Exception): pass

def run(path:Path, flags=(), limit:int=1800, only:str='') -> bool:
    """Run the cells; print the traceback of the first that fails, or takes over `limit` seconds.
    With `only`, the cells that have this text, each with those that it needs."""
    from minitrain.lab.ledger import run_cells
    todo, alarm = list(cells(path, flags)), getattr(signal, 'alarm', lambda seconds: None)     # Windows has none
    if only:
        places = {k for i, (_, s) in enumerate(todo) if only in s for k in needed([s for _, s in todo], i)}
        assert places, f'{path.name} has no cell with {only!r}'
        todo = [todo[k] for k in sorted(places)]
    os.chdir(path.parent)
    def out_of_time(*_): raise OutOfTime(f'over {limit} s')
    if hasattr(signal, 'SIGALRM'): signal.signal(signal.SIGALRM, out_of_time)
    now = []
    def timed():
        for i, source in todo:
            now[:] = i, source
            alarm(limit)
            yield i, source
        alarm(0)
    try:
        for _ in run_cells(timed()): pass
    except BaseException as e:
        where = f'cell {now[0]}, with the exported module:\n{now[1]}\n' if now else 'before its first cell'
        print(f'{path.name}, {where}', file=sys.stderr)
        traceback.print_exception(e)
        return False
    return True

def beside(folder:Path, f, *args, limit:float|None=None, **kwargs) -> tuple: # Whether it went well, and what it printed
    "Call `f` with the package that lies in `folder`, in a forked process: what is imported already, such as PyTorch, need not be again."
    with tempfile.TemporaryFile('w+', encoding='utf-8') as said:
        process = multiprocessing.get_context('fork').Process(target=_beside, args=(folder, said.fileno(), f, args, kwargs))
        process.start(); process.join(limit)
        if process.is_alive(): process.kill(); process.join()
        said.seek(0)
        return process.exitcode == 0, said.read()

def _beside(folder, said, f, args, kwargs):
    for fd in (1, 2): os.dup2(said, fd)
    sys.stdout, sys.stderr = (open(fd, 'w', encoding='utf-8', closefd=False) for fd in (1, 2))
    for name in [m for m in sys.modules if m.split('.')[0] == 'minitrain']: del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        import minitrain
        if Path(minitrain.__file__).parent != Path(folder)/'minitrain': raise ImportError(f'{minitrain.__file__} is not in {folder}')
        well = f(*args, **kwargs)
    except BaseException as e:
        traceback.print_exception(e)
        well = False
    sys.stdout.flush(); sys.stderr.flush()
    os._exit(not well)

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('notebook', type=Path)
    p.add_argument('--flags', default='')
    p.add_argument('--limit', type=int, default=1800)
    p.add_argument('--only', default='', metavar='TEXT', help='the cells that have this text, and those that they need')
    args = p.parse_args()
    sys.exit(not run(args.notebook.resolve(), args.flags.split(), args.limit, args.only))
