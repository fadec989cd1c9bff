"What `torchrun` starts: the lesson's run by two processes, ranks that die, raise, leave or hang, and a script that goes on."
import json, os, subprocess, sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
env = dict(os.environ, OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONPATH=str(root))
pytestmark = pytest.mark.skipif(os.name == 'nt', reason='gloo and signals as on Unix')

def torchrun(*args, limit=300, cwd=None):
    cmd = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--rdzv-backend', 'c10d', '--rdzv-endpoint', 'localhost:0', *map(str, args)]
    return subprocess.run(cmd, env=env, cwd=cwd, capture_output=True, text=True, timeout=limit)

def test_the_lessons_run(tmp_path):
    "`minitrain` needs no change, prints once, and has the figures of one process but for rounding, which training lets grow."
    done = torchrun('-m', 'minitrain', '--only', '05b', '--seed', 3, '--out', tmp_path/'new'/'two')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('05b  constant rate') == 1 and '2 processes' in done.stdout
    subprocess.run([sys.executable, '-m', 'minitrain', '--only', '05b', '--seed', '3', '--out', tmp_path/'one'], env=env, check=True, capture_output=True)
    hardware = [json.loads((tmp_path/n/'lesson_runs.json').read_text())['hardware'] for n in ('one', 'new/two')]
    assert hardware[1] == f'{hardware[0]}, 2 processes'
    one, two = (json.loads((tmp_path/n/'lesson_runs.json').read_text())['runs']['05b'] for n in ('one', 'new/two'))
    for k in ('train_loss', 'valid_loss', 'train_acc', 'valid_acc'):
        for a, b in zip(one[k][0], two[k][0], strict=True): assert abs(a - b) < 2e-3, (k, one[k], two[k])

script = '''
import atexit, os, signal, sys, time
import torch, torch.nn.functional as F
from minitrain.all import *
folder, how = sys.argv[1], sys.argv[2]
if 'slowly' in how and os.environ['RANK'] == '1': atexit.register(time.sleep, 3)      # the last thing that it does: its connections are closed by then
class Dies(Callback):
    only_looks = True
    def after_step(self):
        if self.n_iter == 9 and self.run.distributed.rank == 1: exec(how)
data = DataBunch(*get_dls(Dataset(*(d := synth_data(101))[:2]), Dataset(*d[2:]), 16, seed=1), 4)
model = nn.Linear(20, 4)
run = Runner([AvgStatsCallback(accuracy), DistributedCallback(timeout=5), Dies(), Checkpoint(folder, every=1, resume=True, background=False)])
open(f'{folder}.{os.environ["RANK"]}', 'w').write(str(os.getpid()))
run.fit(3, Learner(model, SGD(model.parameters(), .1), F.cross_entropy, data))
print('finished by', run.distributed.rank, flush=True)
'''

def alive(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    return True

@pytest.mark.parametrize('how, said', {'os.kill(os.getpid(), signal.SIGKILL)': ['Signal 9 (SIGKILL)', 'rank      : 1'], '1/0': ['ZeroDivisionError', 'in process 1 of 2'],
                                       'sys.exit(3)': ['exitcode  : 3', 'rank      : 1'], 'sys.exit(3)    # slowly': ['exitcode  : 3', 'rank      : 1'], 'time.sleep(1000)': ['in process 0 of 2', 'the first error of a job is the cause']}.items())
def test_a_rank_that_fails(tmp_path, how, said):
    "The job ends with an error that names the rank, no process is left, and the checkpoint that it leaves is gone on with."
    (tmp_path/'script.py').write_text(script)
    done = torchrun(tmp_path/'script.py', tmp_path/'run', how)
    assert done.returncode and 'finished' not in done.stdout
    for words in said: assert words in done.stderr, done.stderr
    assert not [r for r in '01' if alive(int((tmp_path/f'run.{r}').read_text()))]
    done = subprocess.run([sys.executable, tmp_path/'script.py', tmp_path/'run', 'pass'], env=env | dict(RANK='0'), capture_output=True, text=True)
    assert done.returncode == 0 and 'goes on in epoch 2 of 3, after batch 2' in done.stdout and 'finished by 0' in done.stdout, done.stdout + done.stderr

def test_it_ends_well(tmp_path):
    "A process that has trained ends with exit status 0, and says nothing of its group."
    (tmp_path/'script.py').write_text(script)
    done = torchrun(tmp_path/'script.py', tmp_path/'run', 'pass')
    assert done.returncode == 0 and done.stdout.count('train:') == 3 and sorted(l for l in done.stdout.splitlines() if 'finished' in l) == ['finished by 0', 'finished by 1'], done.stdout + done.stderr
    assert 'destroy_process_group' not in done.stderr and 'Error' not in done.stderr, done.stderr

def test_nobody_to_meet():
    "A process whose first one is not there says so in a sentence, when its time is up."
    alone = env | dict(WORLD_SIZE='2', RANK='1', LOCAL_RANK='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='1')
    done = subprocess.run([sys.executable, '-c', 'from minitrain.processes import meet; meet(timeout=1)'], env=alone, capture_output=True, text=True)
    assert done.returncode == 1 and 'RuntimeError: process 1 of 2 did not meet the others at 127.0.0.1:1 within 1 s' in done.stderr, done.stderr
