"""What the package promises to those who run it: what it opens, what it loads, what happens when something fails, and that the tests can fail."""
import ast, json, os, subprocess, sys
from pathlib import Path
import pytest, torch
from torch import nn
import minitrain.saving
from minitrain.all import (SGD, AvgStatsCallback, EVENTS, Callback, Checkpoint, Learner, Recorder, Runner, accuracy, export_model, seeded, synth_learner)

root = Path(__file__).parent.parent
quiet = [].append

# What is opened.
def test_importing_opens_no_socket_starts_no_process_and_writes_no_file(tmp_path):
    modules = sorted('.'.join(p.relative_to(root).with_suffix('').parts) for p in (root/'minitrain').rglob('*.py') if not p.stem.startswith('_'))
    code = f'''if True:
        import importlib, os, sys
        import torch, numpy, fastcore.test, fastcore.docments, matplotlib.pyplot       # what is theirs
        import execnb.nbio
        seen = []
        def look(event, args):
            writes = event == 'open' and (set(str(args[1] or '')) & set('wax+') or (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes or event.split('.')[0] in ('socket', 'subprocess', 'pty', 'tempfile', 'shutil', 'urllib', 'http') or event in (
                'os.system', 'os.exec', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.spawn', 'os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'os.chmod', 'os.putenv', 'os.kill'):
                seen.append((event, str(args)[:200]))
        sys.addaudithook(look)
        for name in {modules}: importlib.import_module(name)
        print(seen)'''
    done = subprocess.run([sys.executable, '-B', '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr

def calls(tree): return [ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)]
def test_nothing_is_unpickled():
    "But the digits, whose file is compared with its hash before; a graph that was just exported, to be compared; and what peers saved, in lab.resuming, as they document it"
    for path in (root/'minitrain').rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        tree = ast.parse(text)
        found = {c for c in calls(tree) if c.split('.')[-1] in ('loads', 'load', 'Unpickler') and not c.startswith('json.')}
        imported = {a.name for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
        allowed = {'np.load'} | dict(data={'pickle.load', 'pickle.loads'}, saving={'torch.export.load'}, resuming={'torch.load', 'learn.load'}).get(path.stem, set())
        assert found <= allowed, (path.name, found)
        assert not imported & {'dill', 'joblib', 'cloudpickle', 'shelve', 'marshal'} and ('pickle' not in imported or path.stem == 'data'), path.name
        assert 'allow_pickle=True' not in text and ('weights_only=False' not in text or path.stem == 'resuming')

# What happens when something fails.
def net(): return nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Dropout(.1), nn.Linear(8, 4))
def learner(): return _with(net())
def _with(model): return Learner(model, SGD(model.parameters(), .1, momentum=.9), nn.functional.cross_entropy, synth_learner(96, 16).data)

class Raises(Callback):
    only_looks, _order = True, 100
    def __init__(self, event, at): self.event, self.at, self.calls = event, at, 0
    def _hear(self, event):
        self.calls += event == self.event
        if event == self.event and self.calls == self.at: raise RuntimeError('boom')
for e in EVENTS: setattr(Raises, e, lambda self, e=e: self._hear(e))

class Dies():
    "A loader that dies in the middle of its second pass"
    def __init__(self, dl): self.dl, self.passes = dl, 0
    def __len__(self): return len(self.dl)
    def __getattr__(self, k): return getattr(self.dl, k)
    def __iter__(self):
        self.passes += 1
        for i, b in enumerate(self.dl):
            if self.passes == 2 and i == 3: raise OSError('the disk is gone')
            yield b
class Spoils(Callback):
    only_looks = True
    def __init__(self, how): self.how, self.calls = how, 0
    def after_pred(self):
        self.calls += self.in_train
        if self.calls != 9 or not self.in_train: return
        if self.how == 'memory': raise torch.OutOfMemoryError('CUDA out of memory (simulated)')
        self.run.pred = dict(none=None, shape=self.pred[:3])[self.how]

faults = {**{f'{e} raises': (lambda learn, e=e: [Raises(e, 2)]) for e in EVENTS if e not in ('begin_fit', 'after_fit')},
          'a loader dies': lambda learn: setattr(learn.data, 'train_dl', Dies(learn.data.train_dl)) or [],
          **{f'the model: {how}': (lambda learn, how=how: [Spoils(how)]) for how in ('memory', 'none', 'shape')}}
@pytest.mark.parametrize('fault', faults)
def test_after_any_fault_the_error_says_where_and_the_run_goes_on(fault, tmp_path):
    "The learner is clean, the runner can be used again, and what was saved goes on to the bits of a run that did not fail"
    def run_of(folder, *more, learn=None):
        return Runner([AvgStatsCallback(accuracy, quiet), Recorder(), *more, Checkpoint(folder, 1, resume=True, log=quiet)])
    with seeded(0): whole = learner(); run_of(tmp_path/'whole').fit(3, whole)
    with seeded(0):
        learn = learner()
        more = faults[fault](learn)
        run = run_of(tmp_path/'cut', *more)
        with pytest.raises(Exception) as failed: run.fit(3, learn)
    notes = ' '.join(getattr(failed.value, '__notes__', []))
    assert 'epoch' in notes and 'batch' in notes, notes
    assert not run._busy and run.model is learn.model and run.n_iter < 18
    with seeded(5):
        again = learner(); run = run_of(tmp_path/'cut'); run.fit(3, again)
    assert all(map(torch.equal, whole.model.state_dict().values(), again.model.state_dict().values()))
    Runner().fit(1, learn)                                                # the one that failed can be trained too

def test_after_fit_that_raises_does_not_keep_the_others_from_ending(tmp_path):
    with pytest.raises(RuntimeError, match='boom'): Runner([Raises('after_fit', 1), Checkpoint(tmp_path, log=quiet)]).fit(1, learner())
    with seeded(0): run = Runner(Checkpoint(tmp_path, resume=True, log=(said := []).append)); run.fit(1, learner())
    assert 'the fit is finished' in said[0]

def test_nested_fits_shared_learners_and_empty_fits(tmp_path):
    learn = learner()
    class Inner(Callback):
        only_looks = True
        def __init__(self, own): self.own, self.said = own, None
        def after_epoch(self):
            if self.epoch: return
            try: (Runner() if self.own else self.run).fit(1, learner())
            except RuntimeError as e: self.said = e
    for own in (True, False):
        run = Runner(Inner(own)); run.fit(2, learner())
        assert run.n_iter == 12 and (run.inner.said is None) == own
    assert 'a fit inside a fit of the same Runner' in str(run.inner.said)
    a, b = Runner(Recorder()), Runner(Recorder())
    a.fit(1, learn); b.fit(1, learn); a.fit(1, learn)                     # one learner in two runners: each has its own counts
    assert (len(a.recorder.losses), len(b.recorder.losses), a.n_iter) == (6, 6, 6)
    before = [v.clone() for v in learn.model.state_dict().values()]
    Runner([Recorder(), Checkpoint(tmp_path, log=quiet)]).fit(0, learn)   # nothing is trained
    assert all(map(torch.equal, before, learn.model.state_dict().values()))

def test_an_interrupted_validation_leaves_training_mode_and_a_place_to_go_on(tmp_path):
    class Ends(Callback):
        only_looks = True
        def after_pred(self):
            if not self.in_train and self.epoch == 1: raise KeyboardInterrupt
    with seeded(0): whole = learner(); Runner(Checkpoint(tmp_path/'w', log=quiet)).fit(3, whole)
    with seeded(0):
        learn = learner()
        with pytest.raises(KeyboardInterrupt): Runner([Ends(), Checkpoint(tmp_path/'c', 6, log=quiet)]).fit(3, learn)
    with seeded(1): again = learner(); Runner(Checkpoint(tmp_path/'c', 6, resume=True, log=(said := []).append)).fit(3, again)
    assert 'in epoch 2 of 3, after batch 6' in said[0]                    # its training is done, validation comes next
    assert all(map(torch.equal, whole.model.state_dict().values(), again.model.state_dict().values()))

# The tests can fail.
def cell(i, source): return dict(cell_type='code', id=f'{i:08x}', metadata={}, outputs=[], execution_count=None, source=source)
canaries = dict(assertion=('assert 1 + 1 == 3', False), export=('#| export\nraise ValueError("at import")', False), endless=('while True: pass', False), fine=('assert 1 + 1 == 2', True))
@pytest.mark.parametrize('kind', canaries)
def test_a_notebook_that_must_fail_fails(kind, tmp_path):
    "A wrong assertion, an error in an exported cell, a loop without an end: each way in which notebooks are run says so"
    source, passes = canaries[kind]
    folder = tmp_path/'nbs'; folder.mkdir()
    (tmp_path/'settings.ini').write_text((root/'settings.ini').read_text())
    book = dict(cells=[cell(1, '#| default_exp canary'), cell(2, 'import time'), cell(3, source)], metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')), nbformat=4, nbformat_minor=5)
    (folder/'00_canary.ipynb').write_text(json.dumps(book))
    code = f'''if True:
        import sys; sys.path.insert(0, {str(root/'tests')!r})
        import run_all
        from pathlib import Path
        if __name__ == '__main__':
            run_all.root = Path({str(tmp_path)!r})
            print(run_all.as_notebook(Path({str(folder/'00_canary.ipynb')!r}), '', limit={5 if kind == 'endless' else 300})[0])'''
    script = tmp_path/'go.py'; script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(root)))
    assert done.stdout.strip().splitlines()[-1:] == [str(passes)], done.stdout + done.stderr

# What leaves Python.
@pytest.mark.parametrize('ending', ('.onnx', '.pt2'))
def test_an_exported_model_predicts_the_same_elsewhere(ending, tmp_path, monkeypatch):
    "For a batch of another size, by the runtime alone; and a graph that predicts otherwise is refused"
    with seeded(0): model, xb = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)), torch.randn(4, 1, 8, 8)
    path = tmp_path/f'net{ending}'
    export_model(model, xb, path)
    model.eval()
    if ending == '.onnx':
        import onnxruntime
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: xb[:3].numpy()})[0])
    else: got = torch.export.load(path).module()(xb[:3])
    assert torch.allclose(got, model(xb[:3]), atol=1e-5)
    whole = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    name = '_from_onnx' if ending == '.onnx' else '_from_pt2'
    real = getattr(minitrain.saving, name)
    monkeypatch.setattr(minitrain.saving, name, lambda path, xb: [o + .01 for o in real(path, xb)])
    with pytest.raises(ValueError, match='would predict otherwise than the model, by up to 0.01'): export_model(model, xb, path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == whole       # the good one stays, and nothing else
