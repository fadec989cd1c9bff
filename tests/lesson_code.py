"What a reader of the lesson types, with its imports replaced by one line; test_lesson_code.py runs it."
import contextlib, io
from minitrain.all import *

x_train, y_train, x_valid, y_valid = get_data()
x_train, y_train, x_valid, y_valid = x_train[:10000], y_train[:10000], x_valid[:2000], y_valid[:2000]    # for time's sake
loss_func = F.cross_entropy

def printed(f, *args):
    out = io.StringIO()
    with contextlib.redirect_stdout(out): f(*args)
    return out.getvalue()

def lesson_02_and_03():
    set_seed(0)                 # a test of the names; how runs differ is measured elsewhere
    n, m = x_train.shape
    c = y_train.max() + 1
    nh, bs, lr = 50, 64, .5
    mpl.rcParams['image.cmap'] = 'gray'
    train_mean, train_std = x_train.mean(), x_train.std()
    assert normalize(x_train, train_mean, train_std).std().sub(1).abs() < 1e-3
    assert list(map(tensor, ([1, 2],)))[0].tolist() == [1, 2] and math.sqrt(4) == 2 and np.exp(1) > 2
    init.kaiming_normal_(nn.Linear(m, nh).weight, a=0)
    train_ds, valid_ds = Dataset(x_train, y_train), Dataset(x_valid, y_valid)
    xb, yb = train_ds[0:5]
    assert xb.shape == (5, 28*28) and yb.shape == (5,)

    def get_model():
        model = nn.Sequential(nn.Linear(m, nh), nn.ReLU(), nn.Linear(nh, 10))
        return model, optim.SGD(model.parameters(), lr=lr)
    model, opt = get_model()
    pred = model(x_train[:bs])
    test_near(nll(log_softmax(pred), y_train[:bs]), loss_func(pred, y_train[:bs]))
    test_near(logsumexp(pred), pred.logsumexp(-1))

    loaders = [
        (DataLoader(train_ds, bs), DataLoader(valid_ds, bs)),
        (DataLoader(train_ds, sampler=Sampler(train_ds, bs, shuffle=True), collate_fn=collate),
         DataLoader(valid_ds, sampler=Sampler(valid_ds, bs, shuffle=False), collate_fn=collate)),
        (DataLoader(train_ds, bs, sampler=RandomSampler(train_ds), collate_fn=collate),
         DataLoader(valid_ds, bs, sampler=SequentialSampler(valid_ds), collate_fn=collate)),
        (DataLoader(train_ds, bs, shuffle=True, drop_last=True), DataLoader(valid_ds, bs, shuffle=False)),
        get_dls(train_ds, valid_ds, bs)]
    for train_dl, valid_dl in loaders:
        xb, yb = next(iter(valid_dl))
        assert xb.shape in ((bs, 28*28), (bs*2, 28*28)) and yb[0] == y_valid[0]
        plt.imshow(xb[0].view(28, 28)); plt.close()
        model, opt = get_model()
        said = printed(fit, 1, model, loss_func, opt, train_dl, valid_dl)
        assert said.startswith('0 ')
        with torch.no_grad(): assert accuracy(model(x_valid), y_valid) > .6

    opt = Optimizer(model.parameters())
    assert opt.param_groups[0]['lr'] == .5
    loss_func(model(xb), yb).backward(); opt.step(); opt.zero_grad()
    s = Sampler(Dataset(*train_ds[:10]), 3, False)
    assert [o.tolist() for o in s] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]] and c == 10

def make_data(bs):
    train_ds, valid_ds = Dataset(x_train, y_train), Dataset(x_valid, y_valid)
    return DataBunch(*get_dls(train_ds, valid_ds, bs), y_train.max().item() + 1)

def lesson_04():
    set_seed(0)
    data = make_data(64)
    learn = Learner(*get_model(data), loss_func, data)
    stats = AvgStatsCallback([accuracy])
    run = Runner(cbs=stats)
    said = printed(run.fit, 2, learn)
    assert [line[:8] for line in said.splitlines()] == ['train: [', 'valid: [']*2
    loss, acc = stats.valid_stats.avg_stats
    assert acc > .7 and loss < 1
    acc_cbf = partial(AvgStatsCallback, accuracy)
    run = Runner(cb_funcs=acc_cbf)
    printed(run.fit, 1, learn)
    loss, acc = run.avg_stats.valid_stats.avg_stats
    assert acc > .7
    run = Runner(cbs=AvgStatsCallback([accuracy])); printed(run.fit, 1, learn)

    class TestCallback(Callback):
        _order = 1
        def begin_fit(self): self.n_iters = 0
        def after_step(self):
            self.n_iters += 1
            print(self.n_iters)
            if self.n_iters >= 10: self.run.stop = True
    assert printed(Runner(TestCallback()).fit, 1, learn).split() == [str(i) for i in range(1, 11)]

    class ChattyCallback(Callback):
        def begin_fit(self): print('begin_fit...')
        def begin_epoch(self): print('begin_epoch...')
        def begin_validate(self): print('begin_validate...')
        def after_epoch(self): print('after_epoch...')
    chat = printed(Runner(cbs=[ChattyCallback()]).fit, 2, learn).split()
    assert chat == ['begin_fit...'] + ['begin_epoch...', 'begin_validate...', 'after_epoch...']*2
    assert TrainEvalCallback().name == 'train_eval' and camel2snake('TrainEvalCallback') == 'train_eval_callback'

def lesson_05():
    set_seed(0)
    data = make_data(512)
    learn = create_learner(get_model, loss_func, data)
    run = Runner([AvgStatsCallback([accuracy])])
    printed(run.fit, 3, learn)
    learn = create_learner(partial(get_model, lr=.3), loss_func, data)
    run = Runner([AvgStatsCallback([accuracy])])
    printed(run.fit, 3, learn)
    sched = combine_scheds([.3, .7], [sched_cos(.3, .6), sched_cos(.6, .2)])
    a, p = torch.arange(0, 100), torch.linspace(.01, 1, 100)
    annealings = 'NO LINEAR COS EXP'.split()
    fns = [sched_no, sched_lin, sched_cos, sched_exp]
    for fn, t in zip(fns, annealings):
        f = fn(2, 1e-2)
        plt.plot(a, [f(o) for o in p], label=t)
    plt.legend()
    plt.plot(a, [sched(o) for o in p]); plt.close()

    @annealer
    def sched_half(start, end, pos): return start if pos < .5 else end
    assert [sched_half(1, 2)(o) for o in (.3, .7)] == [1, 2]

    cbfs = [Recorder, partial(AvgStatsCallback, accuracy), partial(ParamScheduler, 'lr', sched)]
    learn = create_learner(get_model_func(.3), loss_func, data)
    run = Runner(cb_funcs=cbfs)
    printed(run.fit, 3, learn)
    assert run.avg_stats.valid_stats.avg_stats[1] > .7
    run.recorder.plot_lr(); run.recorder.plot_loss(); plt.close('all')
    assert len(run.recorder.lrs) == len(run.recorder.losses) == 60
