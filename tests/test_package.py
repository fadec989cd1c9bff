"The package as it is installed: what importing does, what is defined where, and what pip makes of it."
import ast, collections, configparser, importlib.util, json, os, re, shutil, subprocess, sys, tarfile, zipfile
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
modules = sorted('.'.join(p.relative_to(root/'minitrain').with_suffix('').parts) for p in (root/'minitrain').rglob('*.py')
                 if not p.stem.startswith('_'))      # 'core', …, 'lab.claims', …

def python(code, **kwargs): return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, **kwargs)

def test_import_changes_nothing(tmp_path):
    "One after the other in a fresh process, `all` last, which may bring pyplot; each alone is imported by the notebooks' runs"
    code = f'''if True:
        import importlib, json, os, random, sys, warnings
        import numpy as np, torch
        def state():
            return [torch.get_num_threads(), torch.get_rng_state().sum().item(), torch.get_default_dtype(), random.getstate()[1][:5],
                    np.random.get_state()[1][:5].tolist(), sorted(vars(torch.Tensor)), len(warnings.filters),
                    np.get_printoptions(), torch._tensor_str.PRINT_OPTS.__dict__, dict(os.environ)]
        before, changed, drawing = repr(state()), [], []
        for name in {sorted(modules, key=lambda m: m == 'all')}:
            importlib.import_module(f'minitrain.{{name}}')
            if repr(state()) != before: changed.append(name)
            if 'matplotlib' in sys.modules: drawing.append(name)
        print(json.dumps([changed, drawing]))'''
    done = python(code, cwd=tmp_path)
    assert done.stderr == '' and list(tmp_path.iterdir()) == []
    changed, drawing = json.loads(done.stdout)
    assert drawing == ['all'] and not set(changed) - {'all'}       # pyplot's import has side effects of its own

def test_command_parses_before_it_imports_torch():
    done = python('import sys, minitrain.lab.reproduce as r\nprint("torch" in sys.modules)')
    assert done.stdout == 'False\n', done.stderr

def strings(o) -> list: # in a nested structure, pictures left out
    if isinstance(o, str): return [o]
    if isinstance(o, list): return [''.join(o)] if all(isinstance(v, str) for v in o) else [s for v in o for s in strings(v)]
    return [s for k, v in o.items() if not k.startswith('image/') for s in strings(v)] if isinstance(o, dict) else []

PLACE = re.compile(r'(?<![\w:/.<~])/(?:[\w.-]+/)+[\w.-]|\b[A-Z]:\\\w|site-packages')      # an absolute path, of any system

def test_outputs_name_no_place_on_a_machine():
    "What notebooks have stored says nothing of where they ran."
    assert all(PLACE.search(s) for s in ('in /a/b.py:3', "'/a/b'", 'C:\\a', 'lib/site-packages/x')) and not PLACE.search('https://a.b/c/d, 1/2, c/d/e, </a>')
    for path in (root/'nbs').glob('*.ipynb'):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            for text in strings(cell.get('outputs', [])):
                found = PLACE.search(text)
                assert not found, f'{path.name}, cell {cell["id"]}: {text[max(0, found.start() - 60):found.end() + 60]}'

def path_of(module): return f"minitrain/{module.replace('.', '/')}.py"
def tree(name): return ast.parse((root/path_of(name)).read_text(encoding='utf-8'))

def test_each_name_is_defined_once_and_none_by_star():
    owners = collections.defaultdict(list)
    for name in modules:
        for node in tree(name).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)): owners[node.name].append(name)
        assert not [n for n in ast.walk(tree(name)) if isinstance(n, ast.ImportFrom) and n.names[0].name == '*'], name
    assert not {k: v for k, v in owners.items() if len(v) > 1}

def own_imports(name):
    "Modules of this package that module `name` imports, anywhere in it: 'core', 'lab.counting'"
    here = ('minitrain.' + name).split('.')
    for n in ast.walk(tree(name)):
        if isinstance(n, ast.Import): found = [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            package = '.'.join([*here[:-n.level], *([n.module] if n.module else [])]) if n.level else n.module
            found = [package, *(f'{package}.{a.name}' for a in n.names)]
        else: continue
        yield from (f.removeprefix('minitrain.') for f in found if f.startswith('minitrain.'))

def test_modules_import_from_lower_numbers_only():
    number = {}
    for nb in (root/'nbs').glob('[0-9]*.ipynb'):
        found = re.search(r'#\| default_exp ([\w.]+)', nb.read_text(encoding='utf-8'))
        if found: number[found[1]] = nb.name.split('_')[0]
    assert sorted(number) == modules
    for name in modules:
        used = [u for u in own_imports(name) if u in number and u != name]      # the package itself is none of them
        assert all(number[u] < number[name] for u in used), (name, used)

def test_what_trains_imports_nothing_that_measures():
    for name in modules:
        if not name.startswith('lab.'): assert not [u for u in own_imports(name) if u.split('.')[0] == 'lab'], name

def test_no_module_uses_what_is_private_to_another():
    for name in modules:
        taken = [a.name for n in ast.walk(tree(name)) if isinstance(n, ast.ImportFrom)
                 and (n.level or n.module.startswith('minitrain')) for a in n.names]
        assert not [t for t in taken if t.startswith('_') and t != '__version__'], name

def test_public_names_have_docstrings():
    for name in modules:
        for node in tree(name).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_'):
                assert ast.get_docstring(node), f'{name}.{node.name}'

def raised(f): return [n for n in ast.walk(f) if isinstance(n, ast.Raise) and n.exc is not None]

def public_functions():
    "(module, name, node, docstrings that may speak for it) of public functions and the public methods of public classes"
    for name in modules:
        for node in tree(name).body:
            if getattr(node, 'name', '_').startswith('_'): continue
            if isinstance(node, ast.FunctionDef): yield name, node.name, node, ast.get_docstring(node)
            if not isinstance(node, ast.ClassDef): continue
            for m in node.body:
                if isinstance(m, ast.FunctionDef) and (m.name == '__init__' or not m.name.startswith('_')):
                    yield name, f'{node.name}.{m.name}', m, f'{ast.get_docstring(node)} {ast.get_docstring(m)}'

def test_docstrings_say_what_is_raised_and_annotations_where_none_may_be():
    silent = [(module, name) for module, name, f, doc in public_functions() if raised(f) and 'Raises:' not in doc]
    assert not silent, silent
    wrong = []
    for module, name, f, _ in public_functions():
        args = [*f.args.posonlyargs, *f.args.args][-len(f.args.defaults) or len(f.args.args):] + f.args.kwonlyargs
        for a, default in zip(args, [*f.args.defaults, *f.args.kw_defaults], strict=True):
            none = isinstance(default, ast.Constant) and default.value is None
            if none and a.annotation is not None and 'None' not in ast.unparse(a.annotation): wrong.append((module, name, a.arg))
    assert not wrong, wrong

small_fit = '''
import minitrain, torch.nn.functional as F
from minitrain.all import *
set_seed(0)
x, y, xv, yv = synth_data(200)
data = DataBunch(*get_dls(Dataset(x, y), Dataset(xv, yv), 20), 4)
run = Runner([Recorder(), AvgStatsCallback(accuracy), ParamScheduler('lr', sched_cos(.5, .1))])
run.fit(3, create_learner(get_model, F.cross_entropy, data))
assert run.avg_stats.valid_stats.avg_stats[1] > .5
with expect_fail(ValueError): listify(1), check_whole('bs', 0, 1)
test_eq(listify(None), [])
import fastcore; print(minitrain.__file__, fastcore.__version__)
'''

def pip(*args): return subprocess.run([sys.executable, '-m', 'pip', '--disable-pip-version-check', *map(str, args)], capture_output=True, text=True)

@pytest.fixture(scope='module')
def built(tmp_path_factory): # the wheel and the sdist
    out = tmp_path_factory.mktemp('built')
    done = subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(out), str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob('*.whl')), next(out.glob('*.tar.gz'))

def test_wheel_and_sdist(tmp_path, built):
    wheel, sdist = built
    names = zipfile.ZipFile(wheel).namelist()
    assert {path_of(m) for m in modules} <= set(names) and any(n.endswith('LICENSE') for n in names)
    assert {'minitrain/lab/claims.json', 'minitrain/py.typed'} <= set(names)
    about = next(zipfile.ZipFile(wheel).read(n).decode() for n in names if n.endswith('METADATA'))
    links = re.findall(r'\]\(([^)]+)\)', about)                  # a package index shows it without the checkout
    assert len(links) > 15 and all(l.startswith('https://') for l in links), links
    assert re.search(r'!\[[^]]+\]\(https://[^)]+/raw/main/results/loss\.png\)', about)
    for dist in (wheel, sdist):
        target = tmp_path/dist.suffix.strip('.')
        done = pip('install', '--quiet', '--no-deps', '--no-build-isolation', '--target', target, dist)
        assert done.returncode == 0, done.stderr
        done = python(small_fit, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(target)})
        assert done.returncode == 0 and str(target) in done.stdout, done.stderr
        done = python('from minitrain.lab.ledger import *; print(ledger_path(), len(read_ledger()["claims"]))', cwd=tmp_path,
                      env={**os.environ, 'PYTHONPATH': str(target)})
        path, n = done.stdout.split()
        assert path == str(target/'minitrain'/'lab'/'claims.json') and int(n) > 100, done.stderr

def test_two_builds_of_one_state_are_the_same_wheel(tmp_path):
    "Byte for byte, from copies made at different times; pip's file of hashes names each of what the tests need, in the versions of constraints.txt"
    wheels = []
    for i in range(2):
        copy = tmp_path/str(i)
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns('.venv*', '.git', '__pycache__', '*.egg-info', 'build', 'dist', '_docs', 'minitrain-results'))
        for f in copy.rglob('*'): os.utime(f, (1_700_000_000 + 1000*i,)*2)
        done = subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--wheel', '--outdir', str(copy/'dist'), str(copy)], capture_output=True, text=True,
                              env={**os.environ, 'SOURCE_DATE_EPOCH': '1700000000', 'PYTHONHASHSEED': str(i)})
        assert done.returncode == 0, done.stdout + done.stderr
        wheels.append(next((copy/'dist').glob('*.whl')).read_bytes())
    assert wheels[0] == wheels[1]

def test_what_ci_installs_has_hashes_and_the_versions_of_constraints():
    def name(s): return re.sub(r'[-_.]+', '-', s).lower()
    locked = dict(re.findall(r'^([A-Za-z0-9._-]+)==(\S+)', (root/'requirements-ci.txt').read_text(), re.M))
    pinned = {name(k): v for k, v in re.findall(r'^([A-Za-z0-9._-]+)==(\S+)', (root/'constraints.txt').read_text(), re.M)}
    assert len(re.findall(r'--hash=sha256:[0-9a-f]{64}', (root/'requirements-ci.txt').read_text())) >= len(locked) > 100
    assert not {k: (v, pinned[name(k)]) for k, v in locked.items() if pinned.get(name(k), v) != v}
    config = configparser.ConfigParser(delimiters=['=']); config.read(root/'settings.ini')
    wanted = {name(re.split('[>=<]', r)[0]) for k in ('requirements', 'dev_requirements') for r in config['DEFAULT'][k].split()}
    assert wanted - {'torch'} <= {name(k) for k in locked}

def test_the_oldest_versions_that_are_tried_are_those_that_are_allowed():
    config = configparser.ConfigParser(delimiters=['=']); config.read(root/'settings.ini')
    allowed = {r for k in ('requirements', 'lab_requirements', 'tensorboard_requirements') for r in config['DEFAULT'][k].split()}
    lowest = re.findall(r'^[^#\s]\S*', (root/'constraints-lowest.txt').read_text(), re.M)
    def version(r): return [int(n) for n in re.split('>=|==', r)[1].split('.')]
    def exactly(r): return re.split('>=|==', r)[0], (version(r) + [0, 0])[:3]
    assert sorted(map(exactly, allowed)) == sorted(map(exactly, lowest))

def test_tests_run_from_the_sdist(tmp_path, built):
    safe = dict(filter='data') if hasattr(tarfile, 'data_filter') else {}           # Python 3.11.4 brought it
    with tarfile.open(built[1]) as tar: tar.extractall(tmp_path, **safe)
    (source,) = (p for p in tmp_path.iterdir() if p.is_dir())
    code = 'import minitrain, pytest, sys; print(minitrain.__file__); sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))'
    done = subprocess.run([sys.executable, '-c', code, 'tests/test_lesson_code.py', 'tests/test_readme.py', 'tests/test_claims.py', '-k',
                           'lesson or readme or ledger'], capture_output=True, text=True, cwd=source, env={**os.environ, 'PYTHONPATH': str(source)})
    assert done.returncode == 0 and done.stdout.startswith(str(source)), done.stdout + done.stderr

def test_all_extras_install_together():
    config = configparser.ConfigParser(delimiters=['=']); config.read(root/'settings.ini')
    extras = [k.removesuffix('_requirements') for k in config['DEFAULT'] if k.endswith('_requirements')]
    assert sorted(extras) == ['dev', 'lab', 'onnx', 'tensorboard']
    done = pip('install', '--dry-run', '--no-build-isolation', '-c', root/'constraints.txt', f'{root}[{",".join(extras)}]')
    assert done.returncode == 0, done.stderr

def test_fastcore_2(tmp_path):
    done = pip('install', '--quiet', '--no-deps', '--target', tmp_path, 'fastcore>=2,<3')
    if done.returncode: pytest.skip(f'fastcore 2 can not be fetched: {done.stderr.strip().splitlines()[-1]}')
    done = python(small_fit, env={**os.environ, 'PYTHONPATH': str(tmp_path)})
    assert done.returncode == 0 and done.stdout.split()[-1].startswith('2.'), done.stdout + done.stderr

def test_notebooks_are_saved_with_ids_and_outputs():
    for nb in (root/'nbs').glob('*.ipynb'):
        content = json.loads(nb.read_text(encoding='utf-8'))
        assert (content['nbformat'], content['nbformat_minor']) == (4, 5) and all(c.get('id') for c in content['cells']), nb.name
        assert any(c.get('outputs') for c in content['cells'] if c['cell_type'] == 'code'), f'{nb.name} holds no output'
        assert nb.stat().st_size < 1_000_000

def test_runner_that_replaces_exports_sees_a_broken_module(tmp_path):
    "A copy of the package with one wrong sign: the notebook's own run stays green, ours must not"
    spec = importlib.util.spec_from_file_location('run_modules', root/'tests'/'run_modules.py')
    run_modules = importlib.util.module_from_spec(spec); spec.loader.exec_module(run_modules)
    assert run_modules.bound_names('import a.b, c as d\ndef f(): x = 1\nclass G: y = 2\nh, (i, j) = 1, (2, 3)\nfor k in h: pass') == \
        ['a', 'd', 'f', 'G', 'h', 'i', 'j', 'k']
    nb = root/'nbs'/'00_core.ipynb'
    text = (root/'minitrain'/'core.py').read_text(encoding='utf-8')
    assert 'rtol=1e-3' in text
    package = tmp_path/'minitrain'
    shutil.copytree(root/'minitrain', package, ignore=shutil.ignore_patterns('__pycache__'))
    for broken, code in ((True, 1), (False, 0)):
        (package/'core.py').write_text(text.replace('rtol=1e-3', 'rtol=1e-1') if broken else text, encoding='utf-8')
        done = subprocess.run([sys.executable, str(root/'tests'/'run_modules.py'), str(nb)], capture_output=True, text=True,
                              env={**os.environ, 'PYTHONPATH': str(tmp_path)})
        assert done.returncode == code, done.stderr
