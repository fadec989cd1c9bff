"The claims as a whole: the command as a process, and wrong constants put into the package by hand."
import fcntl, json, os, pty, re, signal, struct, shutil, subprocess, sys, termios
from pathlib import Path
import pytest
from minitrain.lab.ledger import claim_notebooks, power, read_ledger

root = Path(__file__).parent.parent
sys.path.insert(0, str(root/'tests'))
import run_modules
command = str(Path(sys.executable).parent/'minitrain_claims')

def run(*args, **kwargs): return subprocess.run([command, *args], capture_output=True, text=True, **kwargs)

def test_prints_worst_first(tmp_path):
    done = run(cwd=tmp_path)                                 # from anywhere
    assert done.returncode == 0 and done.stderr == '', done.stderr
    verdicts = re.findall(r'^\d\w+\..*· (refuted|a lucky draw|another implementation\'s|holds in expectation only|holds)$', done.stdout, re.M)
    order = ['refuted', 'a lucky draw', "another implementation's", 'holds in expectation only', 'holds']
    assert len(verdicts) == len(read_ledger()['claims']) and verdicts == sorted(verdicts, key=order.index)
    some = run('--only', '02b.xavier', cwd=tmp_path).stdout
    assert '02b.xavier.std: lesson 0.927' in some and '02a.' not in some

def test_help_is_immediate_and_wrong_arguments_are_named(tmp_path):
    code = 'import sys, minitrain.lab.ledger\nprint("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == 'False\n'
    assert '--record' in run('--help').stdout
    for args, said in ((['--only', '99'], "--only '99'"), (['--workers', '0'], '--workers 0'), (['--check', '--root', '.'], 'run this in a checkout')):
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr and 'Traceback' not in done.stderr, (args, done.stderr)

def test_ctrl_c_keeps_what_was_recorded(tmp_path):
    "A recording on a terminal shows a bar, stops at once, and goes on from there"
    (tmp_path/'nbs').mkdir()
    first = "claims.exact('one', 'One', lambda f: f(), lambda: 1., 1.)"
    slow = "import time\nif not open('go').read(): time.sleep(10**6)"
    cells = ["from minitrain.lab.claims import *\nclaims = Claims('02z')", first, slow, first.replace("'one'", "'two'")]
    (tmp_path/'nbs'/'02z_x.ipynb').write_text(json.dumps(dict(cells=[dict(cell_type='code', source=c) for c in cells])))
    (tmp_path/'nbs'/'go').write_text('')
    (tmp_path/'results').mkdir()
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)         # a shell's & has it ignored
        os.execv(command, [command, '--record', '--root', str(tmp_path)])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 120, 0, 0))
    made = tmp_path/'results'/'.recording'/'all'/'02z.one.json'
    seen = b''
    while b'1/2' not in seen: seen += os.read(fd, 4096)      # the bar says so when the first is kept
    seed = json.loads(made.read_text())['rows'][0]['seed']
    os.write(fd, b'\x03')
    while True:
        try: part = os.read(fd, 4096)
        except OSError: break
        if not part: break
        seen += part
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 130 and b'--record goes on from here' in seen and b'Traceback' not in seen, seen
    (tmp_path/'nbs'/'go').write_text('go')
    done = run('--record', '--root', str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = read_ledger(tmp_path/'results'/'claims.json')['claims']
    assert sorted(rows) == ['02z.one', '02z.two'] and rows['02z.one']['seed'] == seed

def test_the_ledger_holds_what_the_lesson_prints():
    "Every figure of the lesson, by the number of digits that it has there; and power, published"
    ledger = read_ledger(root/'results'/'claims.json')
    printed = {round(r['lesson'], 5) for r in ledger['claims'].values() if r.get('lesson') is not None}
    wanted = [.1156, .1176, .0107, .5978, 1.1067, .5547, 1.0199, .2219, .3653, 25, 800, 1, 1.41421, 1.41414, 1.4072, .57735, .5788, .5603,
              1.0921, .2186, .3437, .0875, .0065, .0333, .4043, .4231, 50, 784, 28, 0, .927, 516.7943, .0133, .98962, .3133, .4903, 9.0052,
              257.3702, .5643, 1.0055, 2.3076, .1719, .0436, .4507, .875, .1573, .9533, .5863, .8684, .1299, .9609, .1178, .9664, .1283,
              .9625, .3112, .9052, .144, .9572, .1416, .9587, .2178, .9354, .1099, .9663, .121, .9649, .6665, .8075, .2916, .9162,
              .2342, .9323, .3023, .9146, .2377, .9324, .2118, .9397, .7629, .7988, .3509, .9002, .302, .9126, .3649, .8969, .3094, .9107,
              .2661, .9218, .7883, .786, .2979, .9127, .2381, .9312, .3378, .8999, .241, .9319, .2132, .94, 1.3, .2194, .9372]
    assert not [w for w in wanted if w not in printed]
    caught, n, lived = power(ledger)
    assert caught/n >= .95 and all(why for *_, why in lived), lived
    assert all(n['n'] >= 20 for n in ledger['claims'].values() if n['kind'] != 'exact')
    page = (root/'results'/'claims.md').read_text(encoding='utf-8')
    assert all(f'`{id}`' in page for id in ledger['claims'])
    claimed = {p for _, prefixes, _ in claim_notebooks(root/'nbs').values() for p in prefixes}
    assert {id.split('.')[0] for id in ledger['claims']} == claimed

# notebook, module, what is right, what is put there, and text of the cell that must turn red; that it is green with
# what is right, the notebook's run with its module shows; what else goes red is not this test's to say
wrong = [('02a_init_research', 'init', 'math.sqrt(2./', 'math.sqrt(2.02/', "claims.exact(f'gain({name})'"),
         ('02a_init_research', 'init', 'math.sqrt(3.)', 'math.sqrt(2.9)', "claims.exact('kaiming2.a0'"),
         ('02b_initializing', 'scaling', 'layer.weight /= std', 'layer.weight /= 1.1*std', 'counts = lsuv_(model'),
         ('05a_schedules', 'anneal', '*(end - start)/2', '*(end - start)/2.1', 'test_close([sched_cos(2, 4)(p)'),
         ('03_minibatch_training', 'minibatch', 'return -log_probs[range(targ.shape[0]), targ].mean()',
          'return -1.01*log_probs[range(targ.shape[0]), targ].mean()', 'test_near(nll(log_softmax0(logits), targ)')]

@pytest.mark.parametrize('notebook,module,right,mutant,cell', wrong, ids=[f'{m}: {w}' for _, m, _, w, _ in wrong])
def test_a_wrong_constant_turns_red(tmp_path, notebook, module, right, mutant, cell):
    package = tmp_path/'minitrain'
    shutil.copytree(root/'minitrain', package, ignore=shutil.ignore_patterns('__pycache__'))
    text = (package/f'{module}.py').read_text(encoding='utf-8')
    assert text.count(right) == 1, f'{right} is not in {module} once: the test has to follow the code'
    (package/f'{module}.py').write_text(text.replace(right, mutant), encoding='utf-8')
    well, said = run_modules.beside(tmp_path, run_modules.run, root/'nbs'/f'{notebook}.ipynb', only=cell)
    assert not well and f'{notebook}.ipynb, cell ' in said and ('AssertionError' in said or 'ClaimError' in said), said[-2000:]
