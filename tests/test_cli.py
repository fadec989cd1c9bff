"The command as a process: what it prints, saves and returns."
import fcntl, os, pty, re, signal, struct, subprocess, sys, termios, time
from pathlib import Path
import pytest

command = [str(Path(sys.executable).parent/'minitrain')]

def run(*args, **kwargs): return subprocess.run([*command, *map(str, args)], capture_output=True, text=True, **kwargs)

def table(text): return [l for l in re.split('[\r\n]+', text) if l[:5].strip().isdigit()]

@pytest.fixture(scope='module')
def seed_1(tmp_path_factory): # the folder, and what was printed
    tmp_path = tmp_path_factory.mktemp('seed_1')
    return tmp_path, run('--only', '05c', '--seed', 1, cwd=tmp_path)

def test_prints_and_saves(seed_1):
    tmp_path, done = seed_1
    assert done.returncode == 0 and done.stderr == '', done.stderr       # no progress bar where there is no terminal
    assert '05c  one cycle: bs 512' in done.stdout and 'first seed 1' in done.stdout
    assert 'minitrain-results/lr.png' in done.stdout
    for name in ('lr.png', 'loss.png'): assert (tmp_path/'minitrain-results'/name).read_bytes().startswith(b'\x89PNG')

def test_on_a_terminal_a_progress_bar_and_the_same_table(tmp_path, seed_1):
    pid, fd = pty.fork()
    if pid == 0: os.execv(command[0], [*command, '--only', '05c', '--seed', '1', '--out', str(tmp_path)])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 120, 0, 0))
    seen = b''
    while True:
        try: part = os.read(fd, 4096)
        except OSError: break                            # how Linux says that the other end is closed
        if not part: break
        seen += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert '/294 [' in seen.decode() and 'batch/s' in seen.decode()
    first = table(seed_1[1].stdout)
    assert table(seen.decode()) == first and len(first) == 3         # the seed says it all

def test_help_and_wrong_arguments(tmp_path):
    assert run('--help').returncode == 0 and 'usage: minitrain' in run('--help').stdout
    for args in (['--repeat', '0'], ['--only', '99'], ['--nonsense'], ['--seed', '-1']):
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 2 and 'Traceback' not in done.stderr and 'usage: minitrain' in done.stderr, args

def test_no_data_ends_in_one_sentence(tmp_path):
    env = dict(os.environ, MINITRAIN_DATA=str(tmp_path/'empty'), PIP_NO_INDEX='1', HTTPS_PROXY='http://127.0.0.1:9', NO_PROXY='')
    env.pop('PIP_FIND_LINKS', None); env.pop('https_proxy', None)
    done = run('--out', tmp_path/'out', env=env)
    assert done.returncode == 1 and done.stdout == '' and done.stderr.startswith('minitrain: MNIST could not be fetched')
    assert done.stderr.count('\n') == 1 and 'MINITRAIN_DATA' in done.stderr

def test_device_that_is_not_there(tmp_path):
    done = run('--only', '05c', '--device', 'nonsense', '--out', tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr and done.stderr.startswith('minitrain: ')

@pytest.mark.parametrize('when', ['at once', 'in training'])
def test_ctrl_c_leaves_no_traceback(tmp_path, when):
    p = subprocess.Popen([*command, '--repeat', '50'], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=dict(os.environ, PYTHONUNBUFFERED='1'),
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))   # a shell's & has it ignored
    if when == 'at once':                                # while torch is being imported, or just after
        maps = Path(f'/proc/{p.pid}/maps')
        if not maps.exists(): time.sleep(1)
        while maps.exists() and 'libtorch' not in maps.read_text(): time.sleep(.01)
    else: assert 'first seed' in p.stdout.readline()
    p.send_signal(signal.SIGINT)
    out, err = p.communicate()
    assert p.returncode == 130 and err == '\nminitrain: stopped\n', err
