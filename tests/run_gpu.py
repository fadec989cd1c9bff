"""Everything that needs an NVIDIA GPU, in one command, with plain Python: PyTorch is all that has to be there.

    python tests/run_gpu.py [--out results/gpu.json] [--dry-run]

Each cell flagged gpu runs on the exported modules, with the cells that it needs; then an epoch of each contender, and
the races to 97, 98, 99 and 99.5 %. A part that fails is reported, and the others go on; what was seen is written at once.
MNIST comes from MINITRAIN_DATA, a folder or a file in it. With --dry-run the CPU stands in for the GPU.
"""
import argparse, contextlib, json, os, re, subprocess, sys, tempfile, time, traceback, types
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root), str(root/'tests')]

# ---- what may be missing on a bare machine

def tests_of_fastcore() -> types.ModuleType:
    "The five assertions that the notebooks use, where fastcore is not installed."
    m = types.ModuleType('fastcore.test')
    def equals(a, b):
        if hasattr(a, 'shape') or hasattr(b, 'shape'): return bool((a == b).all())
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            return len(a) == len(b) and all(map(equals, a, b))
        return a == b
    def test_eq(a, b): assert equals(a, b), f'{a}\n{b}'
    def test_ne(a, b): assert not equals(a, b), f'{a}\n{b}'
    def test_close(a, b, eps=1e-5):
        pairs = zip(a, b) if hasattr(a, '__iter__') and getattr(a, 'shape', (1,)) != () else [(a, b)]
        for x, y in pairs: assert bool((abs(x - y) < eps).all()) if hasattr(x - y, 'all') else abs(x - y) < eps, f'{x}\n{y}'
    @contextlib.contextmanager
    def expect_fail(exc=Exception, contains='', *args):
        try: yield
        except exc as e: assert contains in f'{e}', e
        else: raise AssertionError(f'{exc} was expected: {contains}')
    def test_fail(f, contains='', args=(), kwargs=None, **_):
        with expect_fail(Exception, contains): f(*args, **(kwargs or {}))
    for f in (test_eq, test_ne, test_close, expect_fail, test_fail): setattr(m, f.__name__, f)
    return m

class StandIns(MetaPathFinder, Loader):
    "Packages that only draw, show or compare: a mock where they are missing."
    names = ('matplotlib', 'IPython', 'scipy', 'tqdm', 'execnb', 'nbformat')
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in self.names: return ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        module = mock.MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__all__ = [], spec, []
        return module
    def exec_module(self, module): pass

def is_there(name) -> bool:
    try: return find_spec(name) is not None
    except (ImportError, ValueError): return False

def prepare() -> list: # names of what is missing
    missing = [n for n in (*StandIns.names, 'fastcore') if not is_there(n)]
    if 'fastcore' in missing:
        package = types.ModuleType('fastcore'); package.__path__ = []
        sys.modules.update({'fastcore': package, 'fastcore.test': tests_of_fastcore()})
    StandIns.names = tuple(n for n in missing if n != 'fastcore')
    sys.meta_path.append(StandIns())
    return missing

# ---- cells

def gpu_cells(nb:Path):
    "(name, sources to run in order) of each cell flagged gpu."
    from run_modules import cells, needed
    sources = [s for _, s in cells(nb, ('gpu',))]
    flagged = [i for i, s in enumerate(sources) if re.search(r'^#\|\s*gpu\b', s, re.M)]
    for k, i in enumerate(flagged): yield f'{nb.stem}, cell {k + 1} of {len(flagged)}', [sources[j] for j in needed(sources, i)]

def on_cpu(source:str) -> str: # for a dry run
    return source.replace("'cuda'", "'cpu'").replace('.cuda()', '.cpu()').replace('is_cuda', 'is_cpu')

def dry(): # what a dry run puts in the place of CUDA
    import torch
    from minitrain.graphs import GraphRunner
    plain = GraphRunner.__init__
    def init(self, cbs=None, cb_funcs=None, warm_up=3, capture=lambda work: work): plain(self, cbs, cb_funcs, warm_up, capture)
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(GraphRunner, '__init__', init))
    stack.enter_context(mock.patch.multiple(torch.cuda, get_device_name=lambda *a: 'CPU, a dry run', synchronize=lambda *a: None,
                                            reset_peak_memory_stats=lambda *a: None, max_memory_allocated=lambda *a: 2**20,
                                            set_sync_debug_mode=lambda mode: None))
    return stack

# ---- the parts: each in a process of its own, since an error on the device may spoil all that comes after

def tensors(dry_run:bool, device): # MNIST on the device; for a dry run little of it
    from minitrain.data import get_data
    n = (4096, 4096, 512, 512) if dry_run else (None,)*4
    return tuple(t[:k].to(device) for t, k in zip(get_data(), n))

def run_cells(sources):
    os.chdir(root/'nbs')
    space = {'__name__': '__main__'}
    for s in sources:
        try: exec(compile(s, '<cell>', 'exec'), space)
        except BaseException as e:
            e.add_note(f'in the cell:\n{s}')
            raise

def parts() -> dict: # {name: function of (dry run?, device) → what is to be kept, or None}
    from functools import partial
    def epochs(dry_run, device):
        from minitrain.lab.gpu import gpu_epochs
        less = dict(turns=2, capture=lambda work: work, compiler=lambda model: model)
        return gpu_epochs(tensors(dry_run, device), **(less if dry_run else {}))
    def races(dry_run, device):
        from minitrain.lab.races import RECIPES, race_all
        if not dry_run: return race_all(tensors(dry_run, device), 5)
        return race_all(tensors(dry_run, device), 1, {aim: {**r, 'epochs': 1, 'bf16': False} for aim, r in RECIPES.items()})
    def cell(sources, dry_run, device): run_cells(map(on_cpu, sources) if dry_run else sources)
    found = dict(epochs=epochs, races=races)
    for nb in sorted((root/'nbs').glob('[0-9]*.ipynb')):
        found |= {name: partial(cell, sources) for name, sources in gpu_cells(nb)}
    return found

def run_part(name, dry_run, out):
    "In a process of its own: run part `name`, and write what came of it to the file `out`."
    prepare()
    result = error = None
    with dry() if dry_run else contextlib.nullcontext():
        try: result = parts()[name](dry_run, 'cpu' if dry_run else 'cuda')
        except BaseException as e: error = ''.join(traceback.format_exception(e))
    Path(out).write_text(json.dumps(dict(result=result, error=error)), encoding='utf-8')

def attempt(name, dry_run, limit) -> dict:
    "A part, whatever becomes of it."
    with tempfile.TemporaryDirectory() as folder:
        file, start = Path(folder)/'part.json', time.perf_counter()
        command = [sys.executable, __file__, '--part', name, '--out', file, *(['--dry-run'] if dry_run else [])]
        try: said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit).stdout
        except subprocess.TimeoutExpired as e: said = f'{(e.stdout or b"").decode(errors="replace")}\nnot done after {limit} s'
        came = json.loads(file.read_text(encoding='utf-8')) if file.exists() else dict(result=None, error=said[-3000:])
    return dict(ok=came['error'] is None, seconds=round(time.perf_counter() - start, 1), said=said, **came)

def environment_of(dry_run) -> dict:
    from minitrain.lab.gpu import gpu_environment
    return gpu_environment('cpu' if dry_run else 'cuda')

def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, help='where to write (results/gpu.json; of a dry run nowhere)')
    p.add_argument('--dry-run', action='store_true', help='the CPU stands in for the GPU')
    p.add_argument('--only', default='', help='parts whose names begin so')
    p.add_argument('--limit', type=int, default=300, help='seconds after which a part is given up')
    p.add_argument('--part', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.part: return run_part(args.part, args.dry_run, args.out)
    out = args.out or (None if args.dry_run else root/'results'/'gpu.json')
    chosen = [name for name in parts() if name.startswith(args.only)]
    if not chosen:
        print(f'--only {args.only!r}: the parts are\n' + '\n'.join(parts()), file=sys.stderr)
        return 2
    missing = prepare()
    import torch
    if not args.dry_run and not torch.cuda.is_available():
        print('no NVIDIA GPU that PyTorch can use: --dry-run tries everything on the CPU', file=sys.stderr)
        return 2
    print(f"torch {torch.__version__}" + (f"; not there, and stood in for: {', '.join(missing)}" if missing else ''))
    from minitrain.core import replacing
    from minitrain.lab.gpu import gpu_caption, gpu_table
    old = json.loads(out.read_text(encoding='utf-8')) if args.only and out and out.exists() else {}      # the others stay
    record = dict(dict(parts={}, results={}) | old, environment=environment_of(args.dry_run))
    for name in chosen:
        print(f'{name} …', end=' ', flush=True)
        part = attempt(name, args.dry_run, args.limit)
        result, record['parts'][name] = part.pop('result'), part
        if result is not None: record['results'][name] = result
        print(f"{'ok' if part['ok'] else 'FAILED'}, {part['seconds']} s", flush=True)
        if not part['ok']: print(part['said'], part['error'], sep='\n', flush=True)
        if out:                                # at once: the next may be cut off
            with replacing(out) as f: f.write((json.dumps(record, indent=1) + '\n').encode())
    failed = [k for k, v in record['parts'].items() if not v['ok']]
    print(f'\n{gpu_table(record)}\n\n{gpu_caption(record)}')
    if out: print(f'written: {out}')
    print(f"{len(record['parts']) - len(failed)} passed, {len(failed)} failed")
    return len(failed) > 0

if __name__ == '__main__': sys.exit(main())
