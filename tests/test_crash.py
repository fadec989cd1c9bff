"""What is left of a run that is killed, whose disk fails, or whose files are damaged: always a checkpoint that can be read.

Longer, with MINITRAIN_CAMPAIGN=1: 1,000 kills and 10,000 damaged files in place of 50 and 300; MINITRAIN_SEED says which.
"""
import errno, hashlib, json, multiprocessing, os, random, resource, shutil, signal, time, tracemalloc, warnings
from pathlib import Path
import pytest, torch
from hypothesis import HealthCheck, given, seed, settings, strategies as st
import minitrain.core
from minitrain.all import EMA, AvgStatsCallback, Callback, Checkpoint, CheckpointError, Learner, Mixup, Recorder, Runner, SGD, accuracy, seeded, synth_learner
from minitrain.saving import read_file
from torch import nn
from campaign import record

campaign, our_seed = bool(os.environ.get('MINITRAIN_CAMPAIGN')), int(os.environ.get('MINITRAIN_SEED', 0))
quiet = [].append

def parts():
    "The same learner and callbacks each time, apart from their weights and seeds"
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Dropout(.2), nn.Linear(16, 4))
    return Learner(net, SGD(net.parameters(), .05, momentum=.9), nn.functional.cross_entropy, synth_learner(320, 16).data), [Mixup(.2), EMA(.9), Recorder()]

class Reached(Callback):
    only_looks, _order = True, 20_000
    def __init__(self, value, end=None): self.value, self.end = value, end
    def after_batch(self):
        if self.in_train: self.value.value = self.n_iter
        if self.in_train and self.n_iter == self.end: raise SystemExit

def train_on(folder, value, every, background, start):
    torch.set_num_threads(1)
    torch.manual_seed(start)
    learn, cbs = parts()
    Runner([*cbs, Checkpoint(folder, every, resume=True, background=background, log=quiet), Reached(value)]).fit(10**6, learn)

def newest(folder, fit=1): # The newest that can be read, as a run would find it
    for file in sorted(Path(folder).glob(f'{fit}-0*.safetensors'), reverse=True):
        try: return read_file(file, 'checkpoint')
        except CheckpointError: pass

@pytest.mark.parametrize('background', (False, True), ids=('at once', 'meanwhile'))
def test_killed_again_and_again(background, tmp_path):
    "kill -9 at random moments; each time the next process goes on; at the end the weights are those of a run that was left alone"
    kills, every, rng = (500 if campaign else 25), 7, random.Random(our_seed)
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch', 'minitrain.all', 'hypothesis'])
    value = context.Value('q', 0, lock=False)           # a process that is killed would keep the lock
    oldest = 0
    for i in range(kills):
        before = value.value
        process = context.Process(target=train_on, args=(tmp_path, value, every, background, i))
        process.start()
        while value.value == before and process.is_alive(): time.sleep(.005)          # it goes on
        time.sleep(rng.random()*.05)
        os.kill(process.pid, signal.SIGKILL); process.join()
        state = newest(tmp_path)
        age = value.value - state['counts']['n_iter']
        assert age < (2 if background else 1)*every + 1, (i, age)             # one interval, and one that was being written
        oldest = max(oldest, age)
    n = state['counts']['n_iter']
    torch.manual_seed(0)
    learn, cbs = parts()
    with pytest.raises(SystemExit): Runner([*cbs, Checkpoint(tmp_path/'whole', 10**6, log=quiet), Reached(value, n)]).fit(10**6, learn)
    assert all(map(torch.equal, learn.model.state_dict().values(), state['model'].values())), n
    record('kills', background=background, kills=kills, batches=n, every=every, most_lost=oldest)

class Faults():
    "Let the `at`-th call of what writes to the disk fail; `how`: an error, half of it written before, or the process's end"
    def __init__(self, monkeypatch, at, how):
        self.count, self.at, self.how = 0, at, how
        for name in ('fsync', 'replace', 'chmod', 'open', 'close'):
            if hasattr(os, name): monkeypatch.setattr(minitrain.core.os, name, self.wrap(getattr(os, name)))
        monkeypatch.setattr(minitrain.core.tempfile, 'mkstemp', self.wrap(minitrain.core.tempfile.mkstemp))
        monkeypatch.setattr(minitrain.core, 'open', self.opened, raising=False)
    def fails(self):
        self.count += 1
        return self.count - 1 == self.at
    def fail(self): raise OSError(errno.ENOSPC, 'No space left on device') if self.how != 'end' else SystemExit('cut off')
    def wrap(self, f):
        def call(*args, **kwargs):
            if self.fails(): self.fail()
            return f(*args, **kwargs)
        return call
    def opened(self, fd, mode):
        file, outer = os.fdopen(fd, mode), self
        class File():
            def __enter__(self): return self
            def __exit__(self, *args): file.close()
            def fileno(self): return file.fileno()
            def writelines(self, parts):
                for p in parts:
                    if outer.fails():
                        if outer.how == 'half': file.write(p[:len(p)//2]); file.flush()
                        outer.fail()
                    file.write(p)
            def flush(self):
                if outer.fails(): outer.fail()
                file.flush()
        return File()

def saved_three_times(folder, monkeypatch, at, how):
    with seeded(0): learn, cbs = parts()
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        faults = Faults(patch, at, how)
        run = Runner([*cbs, Checkpoint(folder, 10, background=False, log=quiet)])
        try: run.fit(1, learn)
        except (OSError, SystemExit) as e: return faults.count, e, said, run
    return faults.count, None, said, run

@pytest.mark.parametrize('how', ('error', 'half', 'end'))
def test_each_write_fails_in_turn(how, monkeypatch, tmp_path):
    "Every call that writes, flushes or renames, one at a time"
    calls, *_ = saved_three_times(tmp_path/'none', monkeypatch, None, how)
    assert calls > 30                                        # the start, after batches 10 and 20, the end: each some ten calls
    for at in range(calls):
        folder = tmp_path/str(at)
        count, error, said, run = saved_three_times(folder, monkeypatch, at, how)
        state = newest(folder)
        if how == 'end':
            assert isinstance(error, SystemExit)
            assert state is None and run.n_iter == 0 or run.n_iter - state['counts']['n_iter'] <= 10, (at, run.n_iter)
        elif at < calls//4:                                  # at the start it is said at once
            assert isinstance(error, OSError) and run.n_iter == 0 and 'No space left' in str(error)
        else:
            assert run.n_iter == 20 and len([w for w in said if 'training goes on' in str(w.message)]) == 1, (at, [str(w.message) for w in said])
            assert state is not None and 20 - state['counts']['n_iter'] <= 10
        with seeded(9): learn, cbs = parts()                 # and it goes on
        Runner([*cbs, Checkpoint(folder, 10, resume=True, log=quiet)]).fit(1, learn)
        assert not [*folder.glob('*.safetensors.*')]
    record('faults', how=how, calls=calls)

def in_child(f, *args):
    "The return value of `f`, called in a process of its own"
    context = multiprocessing.get_context('forkserver')
    queue = context.Queue()
    process = context.Process(target=_answer, args=(queue, f, args)); process.start()
    answer = queue.get(timeout=300); process.join()
    return answer
def _answer(queue, f, args): queue.put(f(*args))

def _with_little_room(folder):
    torch.set_num_threads(1)
    learn, cbs = parts()
    class Full(Callback): # from the tenth batch on no file may be larger than 1 kB
        only_looks = True
        def after_batch(self):
            if self.in_train and self.n_iter == 10:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        run = Runner([*cbs, Full(), Checkpoint(folder, 5, background=False, log=quiet)]); run.fit(1, learn)
    return run.n_iter, [str(w.message) for w in said]

def test_a_full_disk_loses_saves_and_not_the_training(tmp_path):
    n, said = in_child(_with_little_room, tmp_path)
    assert n == 20 and len(said) >= 3 and all('training goes on, the next one is tried. The last that stands is 1-000000005' in s for s in said), said
    assert newest(tmp_path)['counts']['n_iter'] == 5

class Once(Callback):
    only_looks = True
    def __init__(self, at, f): self.at, self.f = at, f
    def after_batch(self):
        if self.in_train and self.n_iter == self.at: self.f()

def test_a_folder_that_vanishes_is_made_anew_and_one_that_is_none_is_refused(tmp_path):
    learn, cbs = parts()
    Runner([*cbs, Checkpoint(tmp_path/'a', 5, background=False, log=quiet), Once(12, lambda: shutil.rmtree(tmp_path/'a', ignore_errors=True))]).fit(1, learn)
    assert newest(tmp_path/'a')['finished']
    (tmp_path/'file').write_text('not a folder')
    for path in (tmp_path/'file', tmp_path/'file'/'deep'):
        with pytest.raises(OSError): Runner(Checkpoint(path)).fit(1, parts()[0])

def test_a_damaged_file_is_passed_over_for_the_one_before(tmp_path):
    learn, cbs = parts()
    Runner([*cbs, Checkpoint(tmp_path, 8, keep=3, log=quiet)]).fit(1, learn)
    files = sorted(tmp_path.glob('1-0*'), reverse=True)
    assert [f.name for f in files] == [f'1-{n:09}.safetensors' for n in (20, 16, 8)]
    data = bytearray(files[0].read_bytes()); data[-3] ^= 4; files[0].write_bytes(data)
    files[1].write_bytes(files[1].read_bytes()[:-100])
    said, (other, cbs) = [], parts()
    with pytest.warns(RuntimeWarning, match='is damaged: its checksum is another: 1-000000008.safetensors is taken'):
        Runner([*cbs, Checkpoint(tmp_path, 8, resume=True, log=said.append)]).fit(1, other)
    assert all(map(torch.equal, learn.model.state_dict().values(), other.model.state_dict().values()))
    assert 'after batch 8' in said[0] and sorted(f.name for f in tmp_path.glob('*.damaged')) == ['1-000000016.damaged', '1-000000020.damaged']
    for f in tmp_path.glob('1-0*.safetensors'): f.write_bytes(b'')
    with pytest.raises(CheckpointError, match='no checkpoint in .* can be read'): Runner([*parts()[1], Checkpoint(tmp_path, resume=True)]).fit(1, parts()[0])

# Damaged and forged files.
def saved(tmp=[]):
    if not tmp:
        import tempfile
        tmp.append(tempfile.TemporaryDirectory())
        learn, cbs = parts()
        Runner([*cbs, AvgStatsCallback(accuracy, quiet), Checkpoint(Path(tmp[0].name), 8, keep=1, log=quiet)]).fit(1, learn)
        tmp.append(next(Path(tmp[0].name).glob('1-0*')).read_bytes())
    return Path(tmp[0].name), tmp[1]

def forged(header, rest):
    "A file whose checksum is right, with any header"
    header['__metadata__']['sha256'] = '0'*64
    head = json.dumps(header, separators=(',', ':')).encode()
    head = len(head).to_bytes(8, 'little') + head
    return head.replace(b'0'*64, hashlib.sha256(head + rest).hexdigest().encode(), 1) + rest

@st.composite
def damaged(draw):
    _, good = saved()
    n = 8 + int.from_bytes(good[:8], 'little')
    kind = draw(st.sampled_from(('flips', 'cut', 'insert', 'swap', 'zeros', 'noise', 'header', 'tree', 'length')))
    at = draw(st.integers(0, len(good) - 1))
    if kind == 'flips':
        data = bytearray(good)
        for i in draw(st.lists(st.integers(0, len(good)*8 - 1), min_size=1, max_size=9, unique=True)): data[i//8] ^= 1 << i % 8
        return bytes(data)
    if kind == 'cut': return good[:at]
    if kind == 'insert': return good[:at] + draw(st.binary(min_size=1, max_size=50)) + good[at:]
    if kind == 'swap': return good[:at] + good[at + 1:] + good[at:at + 1]
    if kind == 'zeros': return good[:at] + bytes(len(good) - at)
    if kind == 'noise': return draw(st.binary(max_size=300))
    if kind == 'length': return draw(st.integers(0, 2**64 - 1)).to_bytes(8, 'little') + good[8:]
    header = json.loads(good[8:n])
    about = json.loads(header['__metadata__']['minitrain'])
    names = [k for k in header if k != '__metadata__']
    if kind == 'header':
        name, part = draw(st.sampled_from(names)), draw(st.sampled_from(('dtype', 'shape', 'data_offsets', 'name', 'gone')))
        if part == 'gone': del header[name]
        elif part == 'name': header['../' + name] = header.pop(name)
        else: header[name][part] = draw(dict(dtype=st.sampled_from(('F64', 'I8', 'BF16', 'X', 3)), shape=st.lists(st.integers(-2, 2**62), max_size=4),
                                             data_offsets=st.lists(st.integers(-9, 2**62), max_size=3))[part])
    else:
        key = draw(st.sampled_from([*about, 'new']))
        about[key] = draw(st.recursive(st.none() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False), lambda o: st.lists(o, max_size=3)
                          | st.dictionaries(st.sampled_from(('tensor', 'array', 'dict', 'tuple', 'float', 'device')), o, max_size=3), max_leaves=8))
        header['__metadata__']['minitrain'] = json.dumps(about)
    return forged(header, good[n:])

refused, accepted = [], []
@seed(our_seed)
@settings(max_examples=10_000 if campaign else 300, deadline=None, derandomize=False, database=None, suppress_health_check=list(HealthCheck))
@given(damaged())
def refuse(data):
    "Nothing is half loaded: the learner's tensors stay, or are those of the file; no memory beyond the file's size, a few times"
    folder, good = saved()
    file = folder/'x'/'1-000000016.safetensors'
    shutil.rmtree(file.parent, ignore_errors=True); file.parent.mkdir(); file.write_bytes(data)
    with seeded(1): learn, cbs = parts()
    before = [v.clone() for v in (*learn.model.state_dict().values(), torch.get_rng_state())]
    tracemalloc.start()
    try:
        Runner([*cbs, AvgStatsCallback(accuracy, quiet), Checkpoint(file.parent, resume=True, log=quiet)]).fit(0, learn)
        accepted.append(data == good)
    except ValueError as e:                                  # CheckpointError is one
        refused.append(str(e))
        assert 20 < len(str(e)) < 2000, str(e)
        now = (*learn.model.state_dict().values(), torch.get_rng_state())
        assert all(map(torch.equal, before, now))
    finally:
        peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    assert peak < 40*len(good) + 2_000_000, peak

def test_any_damaged_or_forged_file_is_refused_with_one_sentence():
    refused.clear(); accepted.clear()
    refuse()
    assert len(refused) > 250 and len(accepted) < .2*len(refused), (len(refused), len(accepted))
    record('files', refused=len(refused), fine=len(accepted))
