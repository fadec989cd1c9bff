"""The tests, tested: one small change to an exported module at a time, drawn at random among those of cosmic-ray's
operators, and whether any test sees it.

    python tests/mutants.py              160 mutants, one a core; writes results/mutants.json
    python tests/mutants.py --n 20 --only minibatch --out some.json

A mutant is caught where its notebook fails on the changed module, or a file of tests/ or another notebook that uses
the module's names. The files in OWN are the module's own too; of the others those that use most of its names come first,
and as many are tried as take 45 s unchanged. One that takes ten times as long as the module unchanged is ended, and caught
too. Lines that draw are left alone.

What survives is kept in the file with the line before and after, for a person to read; what that person writes under
`read` is kept as long as the line is.
"""
import argparse, ast, difflib, json, math, multiprocessing, os, random, re, shutil, tempfile, time
from functools import lru_cache
from importlib import import_module
from pathlib import Path
import run_modules

root = Path(__file__).resolve().parent.parent
LEFT_OUT = ('test_package.py', 'test_gpu.py', 'test_readme.py')     # what they test is no module's code
ALWAYS = ('test_interface.py',)                                     # defaults and constants, of every module
OWN = dict(checkpoint='test_checkpoint.py', files='test_crash.py', averages='test_checkpoint.py', distributed='test_distributed.py',
           data='test_data.py', claims='test_claims.py', gan='test_checkpoint.py', loader='test_loader.py', minibatch='test_loader.py',
           loggers='test_checkpoint.py')                            # tried on what survives its notebook, however long they take
NOT_CODE = ('__init__.py', '_modidx.py', 'all.py')
PEERS = ('peers.py', 'resuming.py', 'continued.py')                 # other libraries, which the tests do without

def operators() -> dict: # of cosmic-ray, by name; those that insert variables want to be told which
    from cosmic_ray.plugins import get_operator, operator_names
    return {name: get_operator(name)() for name in operator_names() if 'Variable' not in name}

def without_effect(source) -> list: # (first, last) positions of annotations, and of `__all__`
    def place(node): return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in ('annotation', 'returns'):
            if getattr(node, name, None) is not None: found.append(place(getattr(node, name)))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__': found.append(place(node))
    return found

PICTURE = re.compile(r'\b(axs?|fig|plt)(\[[^]]*\])?\.|figsize|fontsize|legend|\blw=|alpha=|dpi=')   # judged by eye

def sites(path) -> dict: # {position: [(operator, which of its occurrences)]}
    from cosmic_ray.ast import Visitor, get_ast
    source = path.read_text(encoding='utf-8')
    tree, without, found, lines = get_ast(source), without_effect(source), {}, source.splitlines()
    class Count(Visitor):
        def __init__(self, name, operator): self.name, self.operator, self.n = name, operator, 0
        def visit(self, node):
            for start, stop in self.operator.mutation_positions(node):
                if not any(a <= start < b for a, b in without) and not PICTURE.search(lines[start[0] - 1]):
                    found.setdefault((start, stop), []).append((self.name, self.n))
                self.n += 1
            return node
    for name, operator in operators().items(): Count(name, operator).walk(tree)
    return found

def drawn(n, seed, only=''): # of each mutant: what is known of it, its source, and the number of places that they are drawn from
    rng = random.Random(seed)
    paths = [p for p in sorted((root/'minitrain').rglob('*.py')) if p.name not in (*NOT_CODE, *PEERS) and p.stem.startswith(only)]
    places = [(path, ways) for path in paths for _, ways in sorted(sites(path).items())]
    known, found = operators(), 0
    for path, ways in rng.sample(places, len(places)):
        from cosmic_ray.mutating import mutate_code
        if found == n: return
        operator, which = rng.choice(ways)
        source = path.read_text(encoding='utf-8')
        try: mutant = mutate_code(source, known[operator], which)
        except AttributeError: continue             # `except module.Error`, which its operator takes for a plain name: the next is drawn
        found += 1
        before, after = changed(source, mutant)
        yield dict(module=str(path.relative_to(root)), operator=operator, before=before, after=after), mutant, len(places)

def changed(a, b) -> tuple: # the lines of either that the other has not
    lines = [l for l in difflib.ndiff(a.splitlines(), b.splitlines()) if l[:2] in ('- ', '+ ')]
    return tuple('\n'.join(l[2:].strip() for l in lines if l[0] == sign) for sign in '-+')

def notebook_of(module): # the one that exports it
    line = re.search(r'File to edit: \S*nbs/(\S+\.ipynb)', (root/module).read_text(encoding='utf-8'))
    return line[1]

@lru_cache
def users(module) -> list: # what is tried: the module's notebook, then files of tests/ and notebooks, by how many of its names they use
    source = (root/module).read_text(encoding='utf-8')
    names = ast.literal_eval(re.search(r'^__all__ = (\[.*?\])', source, re.M | re.S)[1])
    uses = re.compile(r'\b(' + '|'.join([*names, Path(module).stem]) + r')\b')
    own, found = notebook_of(module), {}
    for p in (root/'tests').glob('test_*.py'):
        if p.name not in LEFT_OUT: found[p.name] = uses.findall(p.read_text(encoding='utf-8'))
    for p in (root/'nbs').glob('[0-9]*.ipynb'):
        if p.name != own: found[p.name] = uses.findall('\n'.join(s for _, s in run_modules.cells(p)))
    others = sorted((k for k, v in found.items() if v), key=lambda k: (-len(set(found[k])), k))
    return list(dict.fromkeys([own, *ALWAYS, *([OWN[Path(module).stem]] if Path(module).stem in OWN else []), *others]))

def attempt(folder, name) -> bool: # in a forked process whose package lies in `folder`
    if name.endswith('.ipynb'): return run_modules.run(folder/'nbs'/name)
    import pytest
    os.chdir(folder)
    return pytest.main(['-q', '-x', '-p', 'no:cacheprovider', f'--basetemp={folder/"files"}', f'tests/{name}']) == 0

class Bench:
    "A copy of the checkout, in which one mutant at a time is tried"
    def __init__(self, folder, seconds): # {test: seconds that it takes unchanged}, of all benches
        self.folder, self.seconds = folder, seconds
        leave = shutil.ignore_patterns('.venv*', '.git', '__pycache__', '*.egg-info', 'build')
        shutil.copytree(root, folder, ignore=leave)

    def tried(self, name, limit=None) -> tuple:
        start = time.perf_counter()
        well, said = run_modules.beside(self.folder, attempt, self.folder, name, limit=limit)
        return well, said, time.perf_counter() - start

    def usual(self, name, most): # seconds that it takes unchanged; None where it is no use here, or takes longer than `most`
        if name not in self.seconds:
            well, said, took = self.tried(name, 3000)
            if not well: print(f'{name} fails with nothing changed, and is left out:\n{said[-800:]}', flush=True)
            self.seconds[name] = took if well else None
        return self.seconds[name] if (self.seconds[name] or math.inf) < most else None

    def caught_by(self, mutant, module, names, most):
        spent, unchanged = 0, (self.folder/module).read_text(encoding='utf-8')
        own = names[0], OWN.get(Path(module).stem)
        for name in names:                         # its own notebook first, however long that takes
            usual = self.usual(name, most - spent if name not in own else math.inf)
            if usual is None: continue
            if name not in own: spent += usual
            (self.folder/module).write_text(mutant, encoding='utf-8')
            well, *_ = self.tried(name, 30 + 10*usual)
            (self.folder/module).write_text(unchanged, encoding='utf-8')
            if not well: return name
        return None

def work(todo, done, seconds, most):
    with tempfile.TemporaryDirectory() as tmp:
        os.environ['PYTHONPATH'] = str(Path(tmp)/'minitrain')        # for the processes that tests start
        bench = Bench(Path(tmp)/'minitrain', seconds)
        while (job := todo.get()) is not None:
            known, mutant, names = job
            start = time.perf_counter()
            by = bench.caught_by(mutant, known['module'], names, most)
            done.put(dict(known, caught_by=by, seconds=round(time.perf_counter() - start, 1)))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=160)
    p.add_argument('--seed', type=int, default=int(time.time()))
    p.add_argument('--only', default='', metavar='MODULE', help='modules whose name begins so')
    p.add_argument('--workers', type=int, default=os.cpu_count() or 1)
    p.add_argument('--most', type=float, default=45, metavar='S', help='seconds that the tests tried on a mutant take, unchanged (default 45)')
    p.add_argument('--resume', action='store_true', help='go on where a run with the same seed and n was stopped')
    p.add_argument('--again', action='store_true', help='with --resume: try those that survived once more')
    p.add_argument('--out', type=Path, default=root/'results'/'mutants.json')
    args = p.parse_args()
    print(f'seed {args.seed}', flush=True)
    os.environ.update(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', MPLBACKEND='agg', PYTHONUTF8='1')
    chosen = [*drawn(args.n, args.seed, args.only)]
    places = chosen[0][2]
    for name in ('torch._dynamo', 'scipy.stats', 'matplotlib.pyplot', 'execnb.shell', 'pytest'): import_module(name)     # once, before processes fork
    context = multiprocessing.get_context('fork')
    todo, done, seconds = context.Queue(), context.Queue(), context.Manager().dict()
    before = [json.loads(l) for l in args.out.with_suffix('.jsonl').read_text().splitlines()] if args.resume else []
    known_of = {tuple(r[k] for k in ('module', 'operator', 'before', 'after')): r for r in before if r['caught_by'] or not args.again}
    found = [known_of[key] for known, *_ in chosen if (key := tuple(known.values())) in known_of]
    chosen = [c for c in chosen if tuple(c[0].values()) not in known_of]
    for known, mutant, _ in chosen: todo.put((known, mutant, users(known['module'])))
    for _ in range(args.workers): todo.put(None)
    workers = [context.Process(target=work, args=(todo, done, seconds, args.most)) for _ in range(args.workers)]
    for w in workers: w.start()
    partial = args.out.with_suffix('.jsonl')
    if not args.resume: partial.unlink(missing_ok=True)
    for i in range(len(chosen)):
        found.append(r := done.get())
        with open(partial, 'a', encoding='utf-8') as file: file.write(json.dumps(r) + '\n')       # what is known stays, whatever happens
        print(f"{i + 1:4} {r['seconds']:6.1f} s  {r['module']}: {r['caught_by'] or 'SURVIVES'}"
              + ('' if r['caught_by'] else f"\n       {r['operator']}\n     - {r['before']}\n     + {r['after']}"), flush=True)
    for w in workers: w.join()
    save(found, args, places)
    partial.unlink(missing_ok=True)

def save(found, args, places):
    from minitrain.core import environment
    old = json.loads(args.out.read_text(encoding='utf-8'))['survivors'] if args.out.exists() else []
    read = {(s['before'], s['after']): s['read'] for s in old}
    lived = sorted((r for r in found if not r['caught_by']), key=lambda r: (r['module'], r['before']))
    by = {}
    for r in found: by.setdefault(Path(r['module']).stem, [0, 0])[r['caught_by'] is None] += 1
    own = sum(r['caught_by'] == notebook_of(r['module']) for r in found)
    results = dict(n=len(found), caught=len(found) - len(lived), by_own_notebook=own, tried=f'each on its own notebook, a test file of its own, and then on other tests that take {args.most:g} s unchanged', places=places, seed=args.seed,
                   environment=environment(threads=1),
                   modules={k: dict(caught=c, survived=s) for k, (c, s) in sorted(by.items())},
                   survivors=[{k: r[k] for k in ('module', 'operator', 'before', 'after')}
                              | dict(read=read.get((r['before'], r['after']), '')) for r in lived])
    args.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    print(f"{results['caught']} of {results['n']} caught, {own} by the module's own notebook")

if __name__ == '__main__': main()
