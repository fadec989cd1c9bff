"""Every check there is, with a count of what really ran: what make test and CI run.

    python tests/run_all.py [--flags 'slow']     cells with these flags are run too; gpu is added where there is one
    python tests/run_all.py --changed            fresh, pyflakes, and the notebooks that differ from the last commit:
                                                 what make check runs
"""
import argparse, filecmp, gc, json, multiprocessing, os, re, shutil, subprocess, sys, tempfile, time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

root = Path(__file__).resolve().parent.parent
bin_dir = Path(sys.executable).parent
# one thread a process: two processes with two threads each on two cores wait for each other, 40 times as long
env = dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', MPLBACKEND='agg', PYTHONUTF8='1')
counts = [0, 0, 0]              # passed, failed, skipped
took = []                       # (seconds, name)

def command(*cmd, cwd=root, limit=5000, **more):
    "Run it; whether it went well, and what it printed; the limit only ends what would never end"
    try: done = subprocess.run([str(c) for c in cmd], cwd=cwd, env=env | more, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as e:
        return False, f'over {limit} s\n' + ''.join((o or b'').decode(errors='replace') for o in (e.stdout, e.stderr))
    return done.returncode == 0, done.stdout + done.stderr

# Every notebook and every file of tests has a process of its own, forked from one that has imported what most of them
# need: 2 s less for each, and 2 more where an optimiser of PyTorch's is made (it imports torch._dynamo) and draws are judged
heavy = ['torch', 'torch._dynamo', 'scipy.stats', 'matplotlib.pyplot', 'execnb.shell', 'nbdev.test', 'pytest']
processes = multiprocessing.get_context('spawn' if os.name == 'nt' else 'forkserver')
def own_process(f, *args, limit=5000, **more):
    "Call it in a process of its own; whether it went well, and what it printed"
    with tempfile.TemporaryDirectory() as tmp:
        said, well = Path(tmp)/'said', Path(tmp)/'well'        # exit codes are read by any thread that polls, and lost to the others
        process = processes.Process(target=quietly, args=(said, well, multiprocessing.get_start_method(), more, f, *args))
        process.start()
        process.join(limit)
        late = process.is_alive()
        if late: process.kill(); process.join()
        text = said.read_text(encoding='utf-8', errors='replace') if said.exists() else ''
        return well.exists(), (f'over {limit} s\n' if late else '') + text

def quietly(said, well, method, more, f, *args):
    multiprocessing.set_start_method(method, force=True)       # for workers that a notebook starts
    os.environ.update(more)
    with open(said, 'w') as out:
        for fd in (1, 2): os.dup2(out.fileno(), fd)
    os.chdir(root)
    gc.freeze()                    # what was imported is not looked through again by every collection
    if f(*args): well.touch()

def report(name, result, text, seconds):
    "Count and show a check, `result` whether it went well or its own count, and what it said when it didn't"
    single = isinstance(result, bool)
    passed, failed, skipped = (int(result), int(not result), 0) if single else result
    for i, n in enumerate((passed, failed, skipped)): counts[i] += n
    own = '' if single else f': {passed} passed, {failed} failed' + (f', {skipped} skipped' if skipped else '')
    print(f'{"FAIL" if failed else "ok  "} {seconds:6.1f} s  {name}{own}', flush=True)
    if text and (failed or skipped): print(text, flush=True)

def timed(f, *args):
    start = time.perf_counter()
    ok, text = f(*args)
    return ok, text, time.perf_counter() - start

def fresh():
    "Clean and export, in a copy, change nothing; the README is the index notebook's."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp)/'minitrain'
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns('.venv*', '.git', '__pycache__', '*.egg-info', 'build', '_docs'))
        text = ''
        for cmd in ('nbdev_clean', 'nbdev_export'):
            ok, out = command(bin_dir/cmd, cwd=copy)
            if not ok: return False, out
        ok, out = command(sys.executable, 'tests/readme.py', 'README.md', cwd=copy)
        if not ok: return False, out
        for pattern in ('nbs/*.ipynb', 'minitrain/**/*.py', 'README.md'):
            ours, made = ({str(p.relative_to(d)) for p in d.glob(pattern)} for d in (root, copy))
            for name in sorted(ours | made):
                if name in ours & made and filecmp.cmp(root/name, copy/name, shallow=False): continue
                text += f'{name} is not fresh: run make prepare and commit\n'
        return not text, text

def pyflakes():
    modules = [p for p in sorted((root/'minitrain').rglob('*.py')) if p.name != '_modidx.py']
    tests = [p for p in sorted((root/'tests').glob('*.py')) if p.name != 'lesson_code.py']   # its star is its point
    ok, text = command(sys.executable, '-m', 'pyflakes', *modules, *tests, *sorted((root/'docs').glob('*.py')), 'setup.py')
    return ok and not text, text

def pip_check(): return command(sys.executable, '-m', 'pip', 'check')

claim_free = ('01a_claims.ipynb', '01b_ledger.ipynb')          # they test claims, and make none of the ledger's
def as_notebook(nb, flags, **limit):
    "The claims of the ledger are checked once: on the exported modules, where there are any"
    only = {} if nb.name in claim_free or not exports(nb) else dict(MINITRAIN_ONLY='checked on the modules')
    return own_process(nbdev_test, nb, flags, **limit, **only)
def as_module(nb, flags): return own_process(run_module, nb, flags)
def exports(nb): return bool(re.search(r'"#\| (default_exp|exports?|exporti)\b', nb.read_text(encoding='utf-8')))    # else both runs would be one

def nbdev_test(nb, flags):
    from nbdev.test import nbdev_test
    nbdev_test(path=nb, flags=flags)               # it exits where a cell fails
    return True

def run_module(nb, flags):
    import run_modules
    return run_modules.run(nb, flags.split())

def run_pytest(path, xml, folder): # the folder is for tmp_path
    import pytest
    return pytest.main(['-q', '-p', 'no:cacheprovider', '-rs', f'--junitxml={xml}', f'--basetemp={folder}', str(path)]) == 0

def as_tests(path):
    "A file of tests/, counted from pytest's own report"
    with tempfile.TemporaryDirectory() as tmp:
        xml = Path(tmp)/'report.xml'
        ok, text = own_process(run_pytest, path, xml, Path(tmp)/'files')
        if not xml.exists(): return (0, 1, 0), text
        suite = ET.parse(xml).getroot().find('testsuite')
    total, failed, errors, skipped = (int(suite.get(k)) for k in ('tests', 'failures', 'errors', 'skipped'))
    bad = max(failed + errors, not ok)
    said = text if bad else '\n'.join(l for l in text.splitlines() if l.startswith('SKIPPED'))
    return (total - failed - errors - skipped, bad, skipped), said

def left_out(notebooks, flags):
    "Say which flagged cells were not run, and count them."
    for flag in ('slow', 'gpu'):
        if flag in flags.split(): continue
        n = {p.name: sum(bool(re.match(rf'#\| {flag}\b', ''.join(c['source']))) for c in
                         json.loads(p.read_text(encoding='utf-8'))['cells']) for p in notebooks}
        if not sum(n.values()): continue
        counts[2] += sum(n.values())
        print(f'not run: {sum(n.values())} cells flagged {flag}' + (' (no GPU here)' if flag == 'gpu' else '') +
              f', in {", ".join(k for k, v in n.items() if v)}')

def changed() -> list:
    "Notebooks that differ from the last commit; where none does, those that it changed."
    for base in ('HEAD', 'HEAD~1'):
        _, out = command('git', 'diff', '--name-only', base, '--', 'nbs')
        _, new = command('git', 'ls-files', '--others', '--exclude-standard', '--', 'nbs')
        found = sorted(root/p for p in {*out.split(), *new.split()} if p.endswith('.ipynb') and (root/p).exists())
        if found: break
    print('changed: ' + (', '.join(p.name for p in found) or 'no notebook'))
    return found

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--flags', default='')
    parser.add_argument('--changed', action='store_true')
    args = parser.parse_args()
    flags = args.flags
    if 'slow' in flags:                       # and the campaigns of tests/: see tests/campaign.py
        env.update(MINITRAIN_CAMPAIGN='1', MINITRAIN_SEED=str(int(time.time())))
        print(f'campaigns with MINITRAIN_SEED={env["MINITRAIN_SEED"]}')
    os.environ.update(env)
    if os.name != 'nt': processes.set_forkserver_preload(heavy)
    start = time.perf_counter()
    notebooks = changed() if args.changed else sorted((root/'nbs').glob('*.ipynb'))
    # the data is fetched once, before several processes want it
    ok, text = command(sys.executable, '-c', 'import torch; print("GPU"*torch.cuda.is_available(), flush=True); '
                                             'from minitrain.data import get_data; get_data()')
    if text.startswith('GPU'): flags += ' gpu'
    report('MNIST is at hand', ok, text, time.perf_counter() - start)
    jobs = [(f.__name__.replace('_', ' '), f) for f in (fresh, pyflakes, *([] if args.changed else [pip_check]))]
    jobs += [(str(p.relative_to(root)), as_tests, p) for p in sorted((root/'tests').glob('test_*.py')) if not args.changed]
    # the later ones take longest: first, so that no core waits for them at the end
    jobs += [(f'{f.__name__.replace("_", " ")}: {nb.name}', f, nb, flags)
             for nb in reversed(notebooks) for f in (as_notebook, *([as_module] if exports(nb) else []))]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        futures = {pool.submit(timed, *job): name for name, *job in jobs}
        for future in as_completed(futures):
            report(futures[future], *future.result())
            took.append((future.result()[2], futures[future]))
    left_out(notebooks, flags)
    print('longest: ' + ', '.join(f'{name} {s:.0f} s' for s, name in sorted(took, reverse=True)[:6]))
    print(f'{time.perf_counter() - start:.0f} s')
    passed, failed, skipped = counts
    print(f'{passed} passed, {failed} failed' + (f', {skipped} skipped' if skipped else ''))
    return failed > 0

if __name__ == '__main__': sys.exit(main())
