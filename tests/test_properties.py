"""What every exported callback has to keep, whoever it is: a new one is found in `minitrain.all` and tried without being named.

Those that can't be made without arguments have them below; one that is missing there fails, and says so.
"""
import copy, gc, itertools, math, pickle, random, weakref
import numpy as np
import pytest, torch, torch.nn.functional as F
from torch import nn
import minitrain.all as everything
from minitrain.fetching import mixed_seed
from minitrain.all import (SGD, Callback, GANLoss, GANModule, GANOptimizer, GANTrainer, GradientAccumulation, LR_Find, Learner, Runner,
                           TrainEvalCallback, accuracy, sched_cos, sched_lin, seeded, set_seed, synth_learner)

def quiet(line): pass
def some(m): return m[0]
class Modes(SGD): # has what ScheduleFree asks for
    def train(self): pass
    def eval(self): pass
class Tracker: # of whoever keeps runs on a server
    def init(self): pass
    def log(self, values, step): pass
    def finish(self): pass

numbers = itertools.count()
arguments = dict(
    AvgStatsCallback=lambda tmp: dict(metrics=accuracy, log=quiet), EarlyStopping=lambda tmp: dict(quantity='train_loss', patience=None, log=quiet),
    ParamScheduler=lambda tmp: dict(pname='lr', sched_func=sched_cos(.5, .1)), GradientClipping=lambda tmp: dict(max_norm=.3),
    GradientAccumulation=lambda tmp: dict(n=3), WeightDecay=lambda tmp: dict(wd=.1), BatchTransformXCallback=lambda tmp: dict(tfm=lambda xb: xb*1.5),
    ActivationRegularization=lambda tmp: dict(layer=some, alpha=.1), ToDevice=lambda tmp: dict(device='cpu'), Mixup=lambda tmp: dict(seed=3),
    AttributeScheduler=lambda tmp: dict(objs=nn.Dropout(), attr='p', sched_func=sched_lin(0., 1.)), JSONLogger=lambda tmp: dict(path=tmp/'a.jsonl', every=1),
    Checkpoint=lambda tmp: dict(path=tmp/f'run {next(numbers)}', resume=True, log=quiet), CSVLogger=lambda tmp: dict(path=tmp/'a.csv'), TensorBoardLogger=lambda tmp: dict(log_dir=tmp/'tb', every=1),
    TrackerLogger=lambda tmp: dict(tracker=Tracker(), every=1), GANTrainer=lambda tmp: dict(noise=8, conditional=False, seed=1))
kinds = {k: v for k in everything.__all__ if isinstance(v := getattr(everything, k), type) and issubclass(v, Callback)
         and v not in (Callback, TrainEvalCallback) and v.__name__ == k}           # and no older name
lookers = [k for k, v in kinds.items() if getattr(v, 'only_looks', False)]
ordinary = [k for k in kinds if k not in ('GANTrainer', 'LR_Find')]      # the two bring a way of training of their own
needs = dict(EarlyStopping=['AvgStatsCallback'])                         # what must be beside

def make(name, tmp): return kinds[name](**arguments.get(name, lambda tmp: {})(tmp))
def some_of(names, tmp): # callbacks, with what they need
    names = list(dict.fromkeys([*names, *(o for n in names for o in needs.get(n, ()))]))
    return [make(n, tmp) for n in names]

def learner(n=100, bs=16, gan=False):
    if gan:
        with seeded(0): net = GANModule(nn.Linear(8, 20), nn.Sequential(nn.Linear(20, 4), nn.ReLU(), nn.Linear(4, 1)))
        opt = GANOptimizer(SGD(net.generator.parameters(), .1), SGD(net.critic.parameters(), .1))
        return Learner(net, opt, GANLoss(net), synth_learner(n, bs).data)
    with seeded(0): net = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Dropout(.2), nn.ReLU(), nn.Linear(8, 4))
    return Learner(net, Modes(net.parameters(), .1, momentum=.9), F.cross_entropy, synth_learner(n, bs).data)

def state(learn): return [v.clone() for v in learn.model.state_dict().values()]
def same(a, b): return len(a) == len(b) and all(map(torch.equal, a, b))

@pytest.mark.parametrize('name', kinds)
def test_can_be_made_and_is_readable_at_once(name, tmp_path):
    "Every attribute that it shows exists before any fit"
    cb = make(name, tmp_path)
    for k in (k for k in dir(type(cb)) if not k.startswith('_') and isinstance(getattr(type(cb), k), property) and k not in everything.STATE):
        try: getattr(cb, k)
        except ValueError as e: assert len(str(e)) > 20          # it says what is missing
    assert isinstance(cb.name, str)

class Twice: # in place of lambdas, which nobody can pickle
    def __call__(self, xb): return 2*xb

@pytest.mark.parametrize('name', ordinary)
def test_goes_through_pickle_and_a_copy(name, tmp_path):
    "Before a fit and after one, as process pools need it"
    cb, *beside = some_of([name], tmp_path)
    if name == 'BatchTransformXCallback': cb.tfm = Twice()
    for _ in range(2):
        for twin in (pickle.loads(pickle.dumps(cb)), copy.deepcopy(cb)): assert type(twin) is kinds[name] and twin.name == cb.name
        Runner([cb, *beside]).fit(1, learner())

class Halt(Callback):
    _order = -99
    def begin_fit(self): return True
class Refuse(Callback):
    _order = -99
    def begin_fit(self): raise ValueError('mine')

@pytest.mark.parametrize('name', kinds)
def test_a_refused_fit_ends_with_its_own_reason(name, tmp_path):
    for first in (Halt, Refuse):
        try: Runner([first(), *some_of([name], tmp_path)]).fit(1, learner(gan=name == 'GANTrainer'))
        except ValueError as e: assert str(e) == 'mine' and not any('failed at after_fit' in n for n in e.__notes__), e.__notes__
    assert not torch.is_autocast_enabled('cpu')

class At(Callback):
    def __init__(self, cb, add): self.cb, self.add, self.done = cb, add, False
    def after_step(self):
        if not self.done: self.done = True; (self.run.add_cb if self.add else self.run.remove_cb)(self.cb)

@pytest.mark.parametrize('add', (True, False), ids=('added', 'removed'))
@pytest.mark.parametrize('name', ordinary)
def test_added_or_removed_in_a_fit(name, add, tmp_path):
    "It begins and cleans up, or is refused by a sentence; nothing is left on the model"
    cb, *beside = some_of([name], tmp_path)
    learn = learner()
    try: Runner([At(cb, add), *beside, *([] if add else [cb])]).fit(2, learn)
    except (ValueError, RuntimeError) as e: assert len(str(e)) > 20, e
    assert not any(m._forward_hooks for m in learn.model.modules()) and not torch.is_autocast_enabled('cpu')
    assert all(v.isfinite().all() for v in state(learn))

def runs_with(names, tmp, valid=True, loss=F.cross_entropy):
    "Weights and generators after a fit with these callbacks, and weights after a second without them"
    set_seed(0)
    learn = learner(); learn.loss_func = loss
    if not valid: learn.data.valid_dl = None
    Runner(some_of(names, tmp)).fit(2, learn)
    first, rngs = state(learn), [torch.get_rng_state(), torch.tensor(random.getstate()[1][:600]), torch.from_numpy(np.random.get_state()[1].astype('int64'))]
    Runner().fit(1, learn)
    hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) for m in learn.model.modules())
    return first, rngs, state(learn), hooks

def nan_from_the_third(value):
    def loss(pred, yb, calls=[]):
        calls.append(0)
        return F.cross_entropy(pred, yb)*(value if len(calls) > 3 and pred.requires_grad else 1.)
    return loss

@pytest.mark.parametrize('name', lookers)
def test_who_only_looks_leaves_no_trace(name, tmp_path):
    for valid in (True, False):
        plain, seen = runs_with([], tmp_path/'0', valid), runs_with([name], tmp_path/str(valid), valid)
        assert all(map(same, plain[:3], seen[:3])) and seen[3] == 0, (name, valid)
    for value in (math.nan, math.inf):       # what isn't finite is looked at too
        learn = learner(); learn.loss_func = nan_from_the_third(value)
        Runner(some_of([name], tmp_path/f'{value}')).fit(1, learn)

@pytest.mark.parametrize('name', kinds)
def test_after_a_fit_nothing_is_held(name, tmp_path):
    "Once runner and learner are let go, the model is freed, after a good fit and after one that failed"
    class Boom(Callback):
        _order = 999
        def after_step(self): raise RuntimeError('boom')
    for extra in ([], [Boom()]):
        learn, cbs = learner(gan=name == 'GANTrainer'), some_of([name], tmp_path/str(len(extra)))
        if name == 'LR_Find': cbs = [LR_Find(4)]
        ref, run = weakref.ref(learn.model), Runner([*cbs, *extra])
        try: run.fit(1, learn)
        except RuntimeError: pass
        run.learn = run.xb = run.yb = run.pred = run.loss = None
        del learn, run, cbs
        gc.collect()
        assert ref() is None

@pytest.fixture(scope='module', autouse=True)
def only_what_is_new():
    "What was imported, some 200,000 objects, is set aside: the collections below look at what came after it only"
    gc.collect(); gc.freeze()
    yield
    gc.unfreeze()

def tensors_alive():
    gc.collect()
    return sum(o.numel() for o in gc.get_objects() if type(o) in (torch.Tensor, nn.Parameter))

@pytest.mark.parametrize('name', ordinary)
def test_six_fits_take_no_more_memory_than_two(name, tmp_path):
    "Each with a learner and a Runner of its own, which are let go; and with one Runner for all"
    cbs, alive = some_of([name], tmp_path), []
    runs = Runner(cbs)
    for _ in range(6):
        run = Runner(some_of([name], tmp_path)); run.fit(1, learner(1000, 100))
        runs.fit(1, learner(1000, 100))
        alive.append(tensors_alive())
    assert alive[-1] <= alive[1], alive

class Inputs(Callback):
    _order = -1
    def __init__(self): self.fits = []
    def begin_fit(self): self.fits.append([])
    def begin_batch(self):
        if self.in_train: self.fits[-1].append((self.xb[0] if isinstance(self.xb, tuple) else self.xb).clone())

@pytest.mark.parametrize('name', ('GANTrainer', 'Mixup', 'BatchTransformXCallback'))
def test_what_is_random_is_new_in_each_fit_and_the_same_when_it_is_told_the_batch(name, tmp_path):
    gan, runs = name == 'GANTrainer', []
    for _ in range(2):
        cbs = some_of([name], tmp_path)
        if name == 'BatchTransformXCallback': cbs[0].tfm = everything.RandomShift(2, seed=1)
        runs.append(Runner([*cbs, Inputs()]))
        for _ in range(2):
            learn = learner(gan=gan)
            learn.data.train_dl = [(x.view(-1, 1, 4, 5) if name == 'BatchTransformXCallback' else x, y) for x, y in learn.data.train_dl]*2
            learn.data.valid_dl = None
            if not gan: learn.model = nn.Sequential(nn.Flatten(), nn.Linear(20, 4)); learn.opt = SGD(learn.model.parameters(), .1)
            runs[-1].fit(1, learn)
    (first, second), again = runs[0].inputs.fits, runs[1].inputs.fits
    if not gan: assert same(first, again[0])                # of a GAN they depend on its nets too
    n = len(first)//2
    assert not any(map(torch.equal, first, second)) and not any(map(torch.equal, first[:n], first[n:]))

class Skip(Callback):
    _order = -50
    def begin_batch(self): return self.in_train and self.n_iter % 5 == 2
class StopPass(Callback):
    def after_batch(self): self.run.stop = self.in_train and self.batch == 4
ways = dict(plain=lambda: [], accumulated=lambda: [GradientAccumulation(3)], skipped=lambda: [Skip()], stopped=lambda: [StopPass()],
            all_three=lambda: [GradientAccumulation(3), Skip(), StopPass()])

def steps_expected(way, epochs=2, batches=7): # of 100 items, 16 at a time
    n, steps, n_iter = 3 if way in ('accumulated', 'all_three') else 1, 0, 0
    for _ in range(epochs):
        waiting = 0
        for b in range(batches):
            if way not in ('skipped', 'all_three') or n_iter % 5 != 2:
                waiting += 1
                if waiting == n or b + 1 == batches: steps, waiting = steps + 1, 0
            n_iter += 1
            if way in ('stopped', 'all_three') and b == 4: break
        steps += waiting > 0                               # what waits when the pass is over
    return steps

@pytest.mark.parametrize('way', [*ways, 'gan'])
@pytest.mark.parametrize('name', ordinary)
def test_heard_as_often_as_steps_are_taken(name, way, tmp_path):
    "before_step and after_step come once a step, whatever the batches did"
    gan = [GANTrainer(8, conditional=False, seed=0)] if way == 'gan' else None
    try:
        cbs = gan or [cb for cb in ways[way]() if type(cb).__name__ != name]
        run = Runner([*cbs, *some_of([name], tmp_path)])
    except ValueError as e:
        assert 'can not work together' in str(e) and gan
        return
    (cb,) = run.of_kind(kinds[name])[-1:]
    heard = {e: 0 for e in ('before_step', 'after_step')}
    for e in heard:
        if not hasattr(cb, e): continue
        def counted(e=e, f=getattr(cb, e)): heard[e] += 1; return f()
        setattr(cb, e, counted)
    learn = learner(gan=bool(gan))
    steps, opts = [], [learn.opt.generator, learn.opt.critic] if gan else [learn.opt]
    for o in opts: o.step = lambda o=o, f=o.step: (steps.append(0), f())[1]
    if gan and name in ('AvgStatsCallback', 'EarlyStopping'): return      # accuracy of a critic's numbers is none
    if gan and name == 'ActivationRegularization': cb.layer = lambda m: m.critic
    run.fit(2, learn)
    assert run.n_step == len(steps) > 0
    if not gan and name != 'GradientAccumulation': assert run.n_step == steps_expected(way)
    for e, n in heard.items():
        if hasattr(cb, e): assert n == run.n_step + getattr(cb, 'skipped', 0)

@pytest.mark.parametrize('name', [n for n in ordinary if hasattr(kinds[n], 'after_backward')])
def test_a_single_batch_changes_neither_weights_nor_gradients(name, tmp_path):
    "Who acts on a step's gradient waits for before_step: after_backward comes once a batch"
    run = Runner(some_of([name], tmp_path))
    (cb,) = run.of_kind(kinds[name])
    def of(model): return [t.clone() for p in model.parameters() for t in (p.detach(), p.grad)]
    def checked(f=cb.after_backward):
        before, res = of(run.model), f()
        assert same(before, of(run.model))
        return res
    cb.after_backward = checked
    run.fit(1, learner())

# Pairs and triples beside a loop by hand, in the documented order.
def by_hand(learn, parts, epochs=2):
    "mixup · loss + penalty · weights of the window · mean · clip · decay · step · average"
    accum, opt = (3 if 'GradientAccumulation' in parts else 1), learn.opt
    model, iters = learn.model, len(learn.data.train_dl)
    act = {}
    handle = model[0].register_forward_hook(lambda m, i, o: act.update(h=o))
    for epoch in range(epochs):
        model.train()
        items = 0
        for b, (xb, yb) in enumerate(learn.data.train_dl):
            if 'BatchTransformXCallback' in parts: xb = xb*1.5
            if 'ParamScheduler' in parts and not items:
                for g in opt.param_groups: g['lr'] = sched_cos(.5, .1)((epoch + b/iters)/epochs)
            other = None
            if 'Mixup' in parts:
                gen = np.random.Generator(np.random.Philox(key=mixed_seed(3, 1, epoch, b, True)))
                lam = gen.beta(.2, .2); other = torch.from_numpy(gen.permutation(len(xb)))
                xb = lam*xb + (1 - lam)*xb[other]
            pred = model(xb)
            loss = F.cross_entropy(pred, yb)
            if other is not None: loss = lam*loss + (1 - lam)*F.cross_entropy(pred, yb[other])
            if 'ActivationRegularization' in parts: loss = loss + .1*act['h'].pow(2).mean()
            (loss*len(xb)).backward()
            items += len(xb)
            if (b + 1) % accum and b + 1 < iters: continue
            params = [p for p in model.parameters() if p.grad is not None]
            for p in params: p.grad /= items
            if 'GradientClipping' in parts: nn.utils.clip_grad_norm_(params, .3)
            if 'WeightDecay' in parts:
                with torch.no_grad():
                    for p in params: p *= 1 - opt.param_groups[0]['lr']*.1
            opt.step(); opt.zero_grad()
            items = 0
        model.eval()
        with torch.no_grad():
            for xb, _ in learn.data.valid_dl: pass
    handle.remove()
    return state(learn)

acting = ['GradientAccumulation', 'GradientClipping', 'WeightDecay', 'ParamScheduler', 'Mixup', 'ActivationRegularization', 'BatchTransformXCallback']
@pytest.mark.parametrize('pair', [*itertools.combinations(acting, 2)], ids='+'.join)
def test_pairs_and_a_third_equal_a_loop_by_hand(pair, tmp_path):
    seed = random.randrange(10**9)
    third = random.Random(seed).choice([n for n in acting if n not in pair])
    looker = random.Random(seed + 1).choice([n for n in lookers if n != 'AvgStatsCallback'])
    for names in (pair, (*pair, third)):
        set_seed(1); ours = learner()
        Runner(some_of([*names, looker], tmp_path/str(len(names)))).fit(2, ours)
        set_seed(1); hand = learner()
        want = by_hand(hand, names)
        off = max((a.double() - b.double()).abs().max().item() for a, b in zip(state(ours), want))
        assert off < 1e-5, (names, looker, off, f'seed {seed}')
