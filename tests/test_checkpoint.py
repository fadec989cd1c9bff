"""A fit that is cut off and goes on ends with the bits of one that was left alone, whatever takes part in it.

Every exported callback is tried without being named; what one needs to be made is in test_properties.py.
"""
import json, os, random, shutil, signal, subprocess, sys, warnings
from pathlib import Path
import numpy as np
import pytest, torch, torch.nn.functional as F
from torch import nn
from torch.utils.data import BatchSampler, RandomSampler, TensorDataset
from torch.utils.data import DataLoader as TorchLoader
from minitrain.all import (EMA, SGD, SWA, AvgStatsCallback, BatchTransformXCallback, Callback, Checkpoint, CheckpointError, CSVLogger, DataBunch, EarlyStopping, EpochMetric,
                           GradientAccumulation, GradientClipping, Interrupt, JSONLogger, Learner, MixedPrecision, Mixup, ParamScheduler, Recorder, Runner,
                           accuracy, sched_cos, seeded)
from minitrain.minibatch import DataLoader, get_dls
from campaign import record
from test_properties import StopPass, Skip, kinds, learner as small, quiet, same, some_of, state

class Kill(Callback):
    "As a process that ends: nobody is told"
    only_looks, _order = True, 20_000
    def __init__(self, at, event='after_batch'): self.at, self.event, self.count = at, event, 0
    def _die(self, event):
        if event != self.event or (event == 'after_batch' and not self.in_train): return
        self.count += 1
        if self.count == self.at: raise SystemExit('killed')
    def after_batch(self): self._die('after_batch')
    def begin_validate(self): self._die('begin_validate')
    def after_epoch(self): self._die('after_epoch')

def run_of(make, folder, seed, kill=None, every=1, epochs=3, **kw):
    "Learner and Runner after a fit, which was killed or not; `make()` → a learner and its callbacks"
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter('error')
        learn, cbs = make()
        run = Runner([*cbs, Checkpoint(folder, every, resume=True, log=quiet, **kw), *([kill] if kill else [])])
        try: run.fit(epochs, learn)
        except SystemExit: pass
        run.drawn = torch.rand(3), np.random.rand(), random.random()
    return learn, run

def traces(run):
    "What callbacks show: numbers and lines"
    shown = {}
    for cb in run.cbs:
        for k in ('history', 'losses', 'norms', 'values', 'best', 'valid_losses', 'lrs', 'steps', 'n_averaged', 'skipped', 'batches', 'best_epoch'):
            v = getattr(cb, k, None)
            if k == 'history': v = [{n: x for n, x in row.items() if n != 'seconds'} for row in v or ()]
            if v is not None: shown[type(cb).__name__, k] = v if not isinstance(v, torch.Tensor) else v.tolist()
    return shown

def agree(a, b, what):
    (learn, run), (other, again) = a, b
    assert same(state(learn), state(other)), what
    assert repr(learn.opt.state_dict()) == repr(other.opt.state_dict()), what
    assert repr(traces(run)) == repr(traces(again)), (what, traces(run), traces(again))
    assert str(run.drawn) == str(again.drawn), what
    assert [getattr(run, k) for k in ('n_iter', 'n_step', 'n_epochs')] == [getattr(again, k) for k in ('n_iter', 'n_step', 'n_epochs')], what

def killed_everywhere(make, tmp, points=None, **kw):
    whole = run_of(make, tmp/'whole', 0, **kw)
    n = whole[1].n_iter
    points = points or [('after_batch', i) for i in range(1, n + 1)] + [('begin_validate', 2), ('after_epoch', 1), ('after_epoch', 2)]
    for event, at in points:
        folder = tmp/f'{event}{at}'
        run_of(make, folder, 0, Kill(at, event), **kw)
        agree(whole, run_of(make, folder, 7, **kw), (event, at))
    record('continued', points=len(points))

@pytest.mark.parametrize('name', [n for n in kinds if n not in ('Checkpoint', 'LR_Find')])
def test_each_callback_goes_on(name, tmp_path):
    "Also the pair with accumulation, where a gradient waits for the next batch's"
    gan = name == 'GANTrainer'
    for i, more in enumerate(([], ['GradientAccumulation'])):
        def make(): return small(gan=gan), some_of([name, 'Recorder', *more], tmp_path/f'{random.random()}')
        killed_everywhere(make, tmp_path/str(i), [('after_batch', 1), ('after_batch', 9), ('begin_validate', 2), ('after_epoch', 2)][:2 if i else 4], epochs=2 if i else 3)

def everything():
    net = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Dropout(.2), nn.ReLU(), nn.Linear(8, 4))
    learn = Learner(net, torch.optim.Adam(net.parameters(), .01), F.cross_entropy, small(100, 16).data)
    cbs = [AvgStatsCallback([accuracy, EpochMetric(accuracy)], quiet), Recorder(), Mixup(.4), GradientAccumulation(2), GradientClipping(.5), EMA(.9, validate=True),
           SWA(.3), ParamScheduler('lr', sched_cos(.01, .001)), MixedPrecision(torch.bfloat16), BatchTransformXCallback(Twist(), train_only=True),
           EarlyStopping(patience=2, log=quiet)]
    return learn, cbs

class Twist: # draws from a generator of its own, and from the global one
    def __init__(self): self.generator = torch.Generator().manual_seed(int(torch.randint(2**40, ())))
    def __call__(self, xb): return xb + .1*torch.randn(xb.shape, generator=self.generator) + .1*torch.randn(xb.shape)
    def state_dict(self): return dict(generator=self.generator.get_state())
    def load_state_dict(self, state): self.generator.set_state(state['generator'])

def test_everything_at_once_is_killed_after_every_batch(tmp_path):
    killed_everywhere(everything, tmp_path, every=1, epochs=4 if os.environ.get('MINITRAIN_CAMPAIGN') else 3)

@pytest.mark.parametrize('every', (3, 5, None))
def test_what_was_done_since_the_last_save_is_done_again(every, tmp_path):
    killed_everywhere(everything, tmp_path, [('after_batch', 5), ('after_batch', 13), ('begin_validate', 2)], every=every)
    assert len([*(tmp_path/'whole').glob('*.safetensors')]) == 2

class Noisy(torch.utils.data.Dataset): # draws where it is fetched
    def __init__(self): self.ds = small(60, 16).data.train_ds
    def __len__(self): return 60
    def __getitem__(self, i): return self.ds.x[i] + .1*torch.randn(20) + .1*random.random() + .1*np.random.rand(), self.ds.y[i]

loaders = dict(
    items=lambda: get_dls(Noisy(), Noisy(), 16), workers=lambda: get_dls(Noisy(), Noisy(), 16, num_workers=2),
    theirs=lambda: (TorchLoader(Noisy(), 16, shuffle=True), TorchLoader(Noisy(), 16)),
    their_generator=lambda: (TorchLoader(Noisy(), 16, shuffle=True, generator=torch.Generator().manual_seed(int(torch.randint(99, ())))), None),
    their_workers=lambda: (TorchLoader(Noisy(), 16, shuffle=True, num_workers=1), None),
    their_sampler=lambda: (DataLoader(Noisy(), 16, sampler=RandomSampler(Noisy())), None),
    their_batches=lambda: (DataLoader(TensorDataset(*small(60, 16).data.train_ds[:60]), sampler=BatchSampler(RandomSampler(range(60)), 16, False)), None))
@pytest.mark.parametrize('kind', loaders)
def test_loaders_of_all_kinds(kind, tmp_path):
    def make():
        learn = small()
        learn.data = DataBunch(*loaders[kind]())
        return learn, [Recorder(), AvgStatsCallback(accuracy, quiet)]
    few = [('after_batch', 1), ('after_batch', 6), ('after_batch', 8)] if 'workers' in kind else None
    killed_everywhere(make, tmp_path, few, epochs=3)

@pytest.mark.parametrize('way', (Skip, StopPass))
def test_passes_that_others_cut_short(way, tmp_path):
    def make(): return small(), [Recorder(), AvgStatsCallback(accuracy, quiet), GradientAccumulation(3), way()]
    killed_everywhere(make, tmp_path)

class CtrlC(Callback):
    only_looks = True
    def __init__(self, at, valid=False): self.at, self.valid = at, valid
    def after_pred(self):
        if self.in_train != self.valid and self.n_iter == self.at: os.kill(os.getpid(), signal.SIGINT)

@pytest.mark.parametrize('valid', (False, True), ids=('training', 'validation'))
def test_ctrl_c_saves_where_it_is(valid, tmp_path):
    def make(): return everything()[0], [*everything()[1], Interrupt()]
    whole = run_of(make, tmp_path/'whole', 0, every=1000)
    for at in (7, 14) if valid else (3, 7, 9, 16):
        with seeded(0):
            learn, cbs = make()
            run = Runner([*cbs, CtrlC(at, valid), Checkpoint(tmp_path/str(at), 1000, resume=True, log=quiet)])
            run.fit(3, learn)
        assert run.n_iter == (at if valid else at + 1) and run.interrupt.caught
        agree(whole, run_of(make, tmp_path/str(at), 7, every=1000), at)

def test_a_second_fit_and_a_finished_one(tmp_path):
    "A script of two fits that is run again does nothing that was done"
    def script(folder, kill=None, seed=0):
        with seeded(seed):
            learn, cbs = everything()
            said = []
            run = Runner([*cbs, Checkpoint(folder, 1, resume=True, log=said.append), *([kill] if kill else [])])
            try: run.fit(2, learn); run.fit(3, learn)
            except SystemExit: pass
            run.drawn = 0
        return (learn, run), said
    whole, _ = script(tmp_path/'whole')
    for at in (3, 17, 30):
        script(tmp_path/str(at), Kill(at))
        again, said = script(tmp_path/str(at), seed=5)
        agree(whole, again, at)
        assert len(said) == (1 if at == 3 else 2) and ('fit is finished' in said[0]) == (at > 14), said
    again, said = script(tmp_path/'whole', seed=6)
    agree(whole, again, 'done')
    assert [line.endswith('the fit is finished') for line in said] == [True, True]

def script_of(folder, kill):
    learn, run = run_of(everything, folder, 3, Kill(kill) if kill else None)
    print(json.dumps([[p.double().sum().item() for p in state(learn)], run.recorder.losses, run.avg_stats.history[-1]['valid_accuracy']]))

def test_in_a_new_process(tmp_path):
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=os.path.dirname(__file__))
    def process(folder, kill=0):
        code = f'import sys; from pathlib import Path; from test_checkpoint import script_of; script_of(Path({str(folder)!r}), {kill})'
        return json.loads(subprocess.run([sys.executable, '-c', code], env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    whole = process(tmp_path/'a')
    killed = process(tmp_path/'b', 9)
    assert len(killed[1]) == 9 and process(tmp_path/'b') == whole

def test_what_does_not_fit_is_refused_by_name_and_nothing_is_changed(tmp_path):
    run_of(lambda: (small(), [Recorder(), Mixup(.4)]), tmp_path, 0, Kill(4))
    def other(**kw):
        learn = small()
        for k, v in kw.get('learn', {}).items(): setattr(learn, k, v)
        return learn, kw.get('cbs', [Recorder(), Mixup(.4)])
    net = nn.Linear(20, 4)
    cases = {"lacks it": dict(cbs=[Recorder()]), "the saved run lacks the callback 'gradient_clipping'": dict(cbs=[Recorder(), Mixup(.4), GradientClipping(1.)]),
             'is another net: it lacks weight, bias; it has beyond': dict(learn=dict(model=net, opt=SGD(net.parameters(), .1))),
             'training has 13 batches of 100 items, and had 7 of 100': dict(learn=dict(data=small(100, 8).data)),
             'the optimiser is a Adam': dict(learn=dict(opt=torch.optim.Adam(small().model.parameters(), .1)))}
    for why, case in cases.items():
        learn, cbs = other(**case)
        if 'opt' in case.get('learn', {}) and why.startswith('the opt'): learn.opt = torch.optim.Adam(learn.model.parameters(), .1)
        before = state(learn)
        with pytest.raises(ValueError, match=why): Runner([*cbs, Checkpoint(tmp_path, resume=True)]).fit(3, learn)
        assert same(before, state(learn))
    with pytest.raises(ValueError, match='give resume=True to go on'): Runner([Recorder(), Mixup(.4), Checkpoint(tmp_path)]).fit(3, small())
    with pytest.warns(UserWarning, match='was to last 3 epochs, and this one 5'):
        Runner([Recorder(), Mixup(.4), Checkpoint(tmp_path, resume=True, log=quiet)]).fit(5, small())

class Counts(Callback):
    def __init__(self): self.n, self.mine = 0, []
    def after_batch(self): self.n += 1

class Finds(Callback):
    def __init__(self): self.best = None
    def after_batch(self): self.best = 7 if self.n_iter > 2 else None

def test_a_callback_whose_state_would_be_lost_is_named(tmp_path):
    with pytest.warns(UserWarning, match="'counts' changes n while it trains, and has no state_dict"):
        Runner([Counts(), Checkpoint(tmp_path/'a')]).fit(1, small())
    with pytest.warns(UserWarning, match="'finds' changes best while it trains"): Runner([Finds(), Checkpoint(tmp_path/'b', every=1)]).fit(1, small())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for fine in (type('Counts', (Counts,), dict(transient=('n',))), type('Counts', (Counts,), dict(state_dict=lambda self: dict(n=self.n), load_state_dict=lambda self, s: None))):
            Runner([fine(), Checkpoint(tmp_path/fine.__name__/str(id(fine)))]).fit(1, small())

def test_the_best_is_kept_beside(tmp_path):
    learn, values = small(), iter([3., 1., 2.])
    kept = []
    class Keep(Callback):
        def after_epoch(self): kept.append(state(self.learn))
    run = Runner([Keep(), Checkpoint(tmp_path, best=lambda run: next(values))]); run.fit(3, learn)
    from minitrain.all import load_weights
    assert same(state(Learner(load_weights(small().model, tmp_path/'1-best.safetensors'), None, None, None)), kept[1])
    assert (run.checkpoint.best, run.checkpoint.best_epoch) == (1., 1)

def first_release():
    "The fit whose checkpoint is kept: it must go on in all later versions"
    with seeded(0):
        net = nn.Sequential(nn.Linear(20, 6), nn.BatchNorm1d(6), nn.Dropout(.2), nn.ReLU(), nn.Linear(6, 4))
        learn = Learner(net, SGD(net.parameters(), .1, momentum=.9), F.cross_entropy, small(100, 16).data)
        return learn, [AvgStatsCallback(accuracy, quiet), Recorder(), Mixup(.4), GradientAccumulation(2), GradientClipping(1.), EMA(.9, batches=2), ParamScheduler('lr', sched_cos(.1, .01))]

kept = Path(__file__).parent/'checkpoints'
@pytest.mark.parametrize('version', sorted(f.name for f in kept.iterdir()))
def test_checkpoints_of_each_release_go_on(version, tmp_path):
    "Killed in the middle of an epoch, with half a window of gradients; how it ended then is written beside"
    shutil.copytree(kept/version, tmp_path/'run')
    learn, cbs = first_release()
    run = Runner([*cbs, Checkpoint(tmp_path/'run', 1, resume=True, log=quiet)]); run.fit(3, learn)
    want = json.loads((kept/version/'end.json').read_text())
    assert len(run.recorder.losses) == 21 and run.recorder.losses[:11] == want['losses'][:11]                # these were saved
    if drawn() != want['drawn']: pytest.skip(f'dropout of PyTorch {torch.__version__} draws otherwise: that it goes on is tested, how it ends is not')
    assert torch.allclose(torch.tensor(run.recorder.losses), torch.tensor(want['losses']), rtol=1e-3, atol=1e-4)
    assert abs(run.history[-1]['valid_loss'] - want['valid_loss']) < 1e-3

def drawn():
    with seeded(0): return F.dropout(torch.ones(64)).tolist()

def keep_release(version): # python -c 'from test_checkpoint import *; keep_release("0.1.0")'
    learn, cbs = first_release(); torch.manual_seed(0)
    try: Runner([*cbs, Checkpoint(kept/version, 1, keep=1, log=quiet), Kill(11)]).fit(3, learn)
    except SystemExit: pass
    learn, cbs = first_release(); torch.manual_seed(0)
    run = Runner(cbs); run.fit(3, learn)
    (kept/version/'end.json').write_text(json.dumps(dict(losses=run.recorder.losses, valid_loss=run.history[-1]['valid_loss'], drawn=drawn())))

def test_no_item_is_seen_twice_or_never():
    "As results/resuming.json has it of us and others, in processes of their own; a loop by hand beside it, so that the count is seen to find something"
    from minitrain.lab.continued import measure_way
    ours, by_hand = (measure_way(name) for name in ('minitrain', 'PyTorch, every 2 batches'))
    assert [ours[k] for k in ('twice', 'never', 'equal', 'warned')] == [0, 0, True, []] and ours['lost'] in (0, 2)     # by how far the thread had come
    assert [by_hand[k] for k in ('twice', 'never', 'lost', 'equal', 'warned')] == [32, 0, 0, False, []]
    with pytest.raises(RuntimeError, match='ended with 1'): measure_way('none of them')

@pytest.mark.parametrize('kind', ('json', 'csv'))
def test_a_log_has_each_line_once(kind, tmp_path):
    "What was written after the checkpoint comes again, and is cut off before; what another fit wrote since stays"
    def make(): return small(), [AvgStatsCallback(accuracy, quiet), JSONLogger(tmp_path/'log', every=1) if kind == 'json' else CSVLogger(tmp_path/'log')]
    def seen():
        lines = (tmp_path/'log').read_text().splitlines()
        if kind == 'csv': return [], [int(l.split(',')[0]) for l in lines if l[:1].isdigit()]
        rows = [json.loads(l) for l in lines]
        return [r['n_iter'] for r in rows if r['event'] == 'after_batch'], [r['epoch'] for r in rows if r['event'] == 'after_epoch']
    def killed_and_on(name, between=lambda: None):
        run_of(make, tmp_path/name, 3, Kill(17), every=6, background=False)         # in the third epoch of three; the last file is of batch 12
        before = seen(); between()
        run_of(make, tmp_path/name, 3, every=6, background=False)
        return before
    def lines(*batches_and_epochs): return ([i for b, _ in batches_and_epochs for i in b] if kind == 'json' else [], [i for _, e in batches_and_epochs for i in e])
    assert killed_and_on('a') == lines((range(1, 18), (0, 1))) and seen() == lines((range(1, 22), (0, 1, 2)))
    (tmp_path/'log').unlink()
    killed_and_on('b', lambda: run_of(make, tmp_path/'another', 3, every=100))
    assert seen() == lines((range(1, 18), (0, 1)), (range(1, 22), (0, 1, 2)), (range(13, 22), (1, 2)))         # nobody's lines were cut off
    (tmp_path/'log').unlink()
    def rewritten(): # as longer lines: where the file ended is in the middle of one now
        first, second, *rest = (tmp_path/'log').read_text().splitlines()
        (tmp_path/'log').write_text('\n'.join([first + '    ', second, *rest] if kind == 'json' else [first, second + '01.5', *rest]) + '\n')
    killed_and_on('c', rewritten)
    assert seen() == lines((range(1, 18), (0, 1)), (range(13, 22), (1, 2)))
    if kind == 'csv':
        (tmp_path/'log').unlink()
        def by_hand():
            with open(tmp_path/'log', 'a') as file: file.write('1.5,a note\n')
        killed_and_on('d', by_hand)
        assert [l.split(',')[0] for l in (tmp_path/'log').read_text().splitlines()] == ['epoch', '0', '1', '1.5', '1', '2']

class Stubborn(Callback):
    "Is saved, and may refuse to be put back"
    def __init__(self, refuses): self.refuses = refuses
    def after_fit(self): pass
    def state_dict(self): return dict(n=1)
    def load_state_dict(self, state):
        if self.refuses: raise RuntimeError('no')

def test_what_it_says_and_what_a_failed_resume_leaves(tmp_path):
    said = []
    def shuffled(): # both loaders shuffle, each in an order of its own
        learn = small()
        learn.data = DataBunch(*(DataLoader(learn.data.train_ds, 4, shuffle=True, seed=seed) for seed in (1, 2)))
        return learn
    def fit(learn, kill, refuses=False):
        with warnings.catch_warnings(action='ignore'):
            Runner([Stubborn(refuses), Checkpoint(tmp_path, 1, resume=True, log=said.append), Kill(kill)]).fit(3, learn)
    def orders(learn): return [[yb.tolist() for _, yb in dl] for dl in (learn.data.train_dl, learn.data.valid_dl)]
    n = len(shuffled().data.train_dl)
    with pytest.raises(SystemExit): fit(shuffled(), n + 2)
    learn, clean = shuffled(), shuffled()
    weights = [p.clone() for p in learn.model.parameters()]
    with pytest.raises(CheckpointError, match='can not be put back, and nothing of it was'): fit(learn, 99, refuses=True)
    assert all(map(torch.equal, learn.model.parameters(), weights)) and orders(learn) == orders(clean) and not said
    fit(shuffled(), 99)
    assert len(said) == 1 and said[0].startswith('goes on in epoch 2 of 3, after batch 2 (')

@pytest.mark.parametrize('background, workers, later', ((True, 0, True), (False, 0, False), (True, 1, False)))
def test_who_writes(tmp_path, monkeypatch, background, workers, later):
    "A thread, but for the first file; not where worker processes fetch, which must not be forked beside it"
    from minitrain.checkpoint import _Folder
    seen, write = [], _Folder.write
    def watched(self, fit, n, parts, best, later, first):
        seen.append((later, first))
        return write(self, fit, n, parts, best, later, first)
    monkeypatch.setattr(_Folder, 'write', watched)
    learn = small()
    if workers: learn.data = DataBunch(DataLoader(learn.data.train_ds, 4, num_workers=workers), None)
    Runner(Checkpoint(tmp_path, background=background)).fit(2, learn)
    assert seen[0] == (False, True) and {o for o in seen[1:]} == {(later, False)}

def test_what_has_a_length_is_watched(tmp_path):
    class Box:
        def __init__(self): self.held = []
        def __len__(self): return len(self.held)
    class Fills(Callback):
        def __init__(self): self.box = Box()
        def after_batch(self): self.box.held.append(1)
    with pytest.warns(UserWarning, match="'fills' changes box"): Runner([Fills(), Checkpoint(tmp_path)]).fit(1, small())
