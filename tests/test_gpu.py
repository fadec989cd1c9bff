"What make gpu runs, on the CPU as far as it goes, on a machine where little more than PyTorch is installed."
import json, os, subprocess, sys
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
sys.path.insert(0, str(root/'tests'))
import run_gpu, run_modules

hide = '''
import sys
from importlib.machinery import PathFinder
class Hide:
    invalidate_caches = PathFinder.invalidate_caches
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.split('.')[0] in {hidden} else PathFinder.find_spec(name, path, target)
sys.meta_path = [Hide if f is PathFinder else f for f in sys.meta_path]
'''

def run(tmp_path, *args):
    "With none of the packages that only draw, show, test or compare"
    hidden = ('fastcore', *run_gpu.StandIns.names)
    (tmp_path/'sitecustomize.py').write_text(hide.format(hidden=hidden))
    return subprocess.run([sys.executable, str(root/'tests'/'run_gpu.py'), '--dry-run', *map(str, args)], capture_output=True, text=True,
                          cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1'))

@pytest.mark.parametrize('part', ['epochs', '15d_graphs'])
def test_a_part_runs_without_the_rest(tmp_path, part):
    done = run(tmp_path, '--only', part, '--out', tmp_path/'gpu.json')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'stood in for: matplotlib' in done.stdout and done.stdout.splitlines()[-1] == '1 passed, 0 failed'
    record = json.loads((tmp_path/'gpu.json').read_text())
    assert record['environment']['device'] == 'CPU, a dry run'
    if part == 'epochs': assert len(record['results']['epochs']['by hand']) == 2 and '| ours |' in done.stdout

def failing(tmp_path, *args, **env):
    done = subprocess.run([sys.executable, str(root/'tests'/'run_gpu.py'), '--dry-run', '--out', str(tmp_path/'gpu.json'), *args],
                          capture_output=True, text=True, env=os.environ | env)
    parts = json.loads((tmp_path/'gpu.json').read_text())['parts']
    assert done.returncode == 1 and not any(p['ok'] for p in parts.values()) and f'0 passed, {len(parts)} failed' in done.stdout
    return parts

def test_parts_that_fail_are_reported_and_the_others_go_on(tmp_path):
    (tmp_path/'empty').mkdir()
    parts = failing(tmp_path, '--only', '1', '--limit', '0')       # no process is done in no time, on any machine
    assert len(parts) >= 4 and all('not done after 0 s' in p['error'] for p in parts.values())
    more = failing(tmp_path, '--only', 'epochs', MINITRAIN_DATA=str(tmp_path/'empty'), PIP_NO_INDEX='1', PIP_FIND_LINKS='',
                   HTTPS_PROXY='http://127.0.0.1:9', https_proxy='http://127.0.0.1:9', NO_PROXY='')
    assert [*more] == [*parts, 'epochs'] and 'MNIST could not be fetched' in more['epochs']['error']      # those before are kept

def test_a_name_that_no_part_has_is_refused(tmp_path):
    done = subprocess.run([sys.executable, str(root/'tests'/'run_gpu.py'), '--dry-run', '--only', 'nothing'], capture_output=True, text=True)
    assert done.returncode == 2 and "--only 'nothing': the parts are\nepochs" in done.stderr

def test_every_gpu_cell_is_a_part_and_brings_what_it_needs():
    flagged = sum(''.join(c['source']).startswith('#| gpu') for nb in (root/'nbs').glob('*.ipynb')
                  for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code')
    parts = {name: sources for nb in sorted((root/'nbs').glob('[0-9]*.ipynb')) for name, sources in run_gpu.gpu_cells(nb)}
    assert len(parts) == flagged > 5
    cells = ['import math', 'a = 1', 'a = 2', 'b = a + 1', 'c = 5', 'print(b, math.pi)']
    assert run_modules.needed(cells, 5) == [0, 2, 3, 5]                # the nearest a, and no c
    assert 'def one_epoch' in ''.join(parts['04_callbacks, cell 1 of 1'])

def test_stand_ins_for_assertions_can_fail():
    m = run_gpu.tests_of_fastcore()
    m.test_eq([1, (2, 3)], [1, (2, 3)]); m.test_ne(1, 2); m.test_close([1., 2.], [1., 2.00000001])
    with m.expect_fail(ValueError, 'x'): raise ValueError('x')
    for bad in (lambda: m.test_eq([1], [1, 2]), lambda: m.test_ne(1, 1), lambda: m.test_close(1., 1.1),
                lambda: m.test_fail(lambda: None)):
        with pytest.raises(AssertionError): bad()
