"What holds for any input, tried with those that hypothesis thinks of: schedules, samplers, averages, events, names, lists, batches."
import math
from types import SimpleNamespace
import numpy as np
import pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn
from minitrain.all import (EVENTS, AvgStatsCallback, Callback, Dataset, DataLoader, LengthSampler, Learner, Runner, SGD, Sampler, camel2snake, combine_scheds,
                           cos_1cycle_anneal, flat_cos, listify, one_cycle, sched_cos, sched_exp, sched_lin, sched_no, smoothed, synth_learner, warmup)
from minitrain.averages import AvgStats, Waiting
from minitrain.batches import items_in, joined, map_tensors, tensors_in
from minitrain.saving import pack, unpack

settings.register_profile('ours', deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile('ours')
rate, share = st.floats(1e-6, 10.), st.floats(0., 1.)
quiet = [].append

# Schedules
@given(st.sampled_from((sched_lin, sched_cos, sched_exp)), rate, rate, share)
def test_a_schedule_has_its_ends_and_stays_between(sched, a, b, pos):
    f = sched(a, b)
    assert math.isclose(f(0.), a, rel_tol=1e-9) and math.isclose(f(1.), b, rel_tol=1e-6, abs_tol=1e-9)
    assert min(a, b)*(1 - 1e-6) <= f(pos) <= max(a, b)*(1 + 1e-6) and sched_no(a, b)(pos) == a

@given(st.lists(st.floats(.01, 1.), min_size=1, max_size=6), st.lists(rate, min_size=7, max_size=7), share)
def test_any_split_of_schedules_that_meet_is_continuous(weights, points, pos):
    shares = [w/sum(weights) for w in weights]
    f = combine_scheds(shares, [sched_cos(a, b) for a, b in zip(points, points[1:])][:len(shares)])
    assert math.isclose(f(0.), points[0], rel_tol=1e-9) and math.isclose(f(1.), points[len(shares)], rel_tol=1e-6, abs_tol=1e-9)
    step, steepest = 1e-7, math.pi/2*10/min(shares)
    assert abs(f(min(pos + step, 1.)) - f(pos)) <= steepest*step*1.1 + 1e-9
    for edge in np.cumsum(shares)[:-1]:                         # nor does it jump where one ends
        assert abs(f(min(edge + 1e-9, 1.)) - f(max(edge - 1e-9, 0.))) <= steepest*2e-9*1.1 + 1e-8

@given(rate, st.floats(.05, .95), share)
def test_the_usual_schedules_never_pass_their_rate(lr, pct, pos):
    for f in (one_cycle(lr, pct), flat_cos(lr, pct), warmup(sched_lin(lr, 0.), pct), combine_scheds([pct, 1 - pct], cos_1cycle_anneal(lr/25, lr, lr/1e5))):
        assert -1e-12 <= f(pos) <= lr*(1 + 1e-9)

@given(st.lists(st.floats(-9., 9.), min_size=1, max_size=5).filter(lambda p: min(p) < 0 or not math.isclose(sum(p), 1, abs_tol=1e-6)))
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match='give shares'): combine_scheds(shares, [sched_no(1., 1.)]*len(shares))

# Samplers and loaders
@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**60), st.integers(0, 5), st.booleans())
def test_each_index_once_in_any_epoch_from_any_batch(n, bs, seed, epoch, shuffle):
    sampler = Sampler(range(n), bs, shuffle, seed=seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(torch.cat(batches).tolist()) == [*range(n)] and len(batches) == len(sampler) and {len(b) for b in batches[:-1]} <= {bs}
    dl = DataLoader(Dataset(torch.arange(n), torch.arange(n)), bs, shuffle, seed=seed)
    start = len(batches)//2
    dl.set_epoch(epoch)
    assert [y.tolist() for _, y in dl.iter_from(start)] == [b.tolist() for b in batches[start:]]

@given(st.lists(st.integers(1, 99), min_size=1, max_size=80), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_lengths_are_sorted_into_batches_and_none_is_lost(lengths, bs, pool, seed):
    batches = list(LengthSampler(lengths, bs, pool=pool, seed=seed))
    assert sorted(i for b in batches for i in b.tolist()) == [*range(len(lengths))] and max(map(len, batches)) <= bs

# Averages
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.data())
def test_averages_do_not_depend_on_how_items_are_batched(values, data):
    t = torch.tensor(values)
    def average(sizes):
        stats, at = AvgStats([lambda pred, yb: pred.square().mean()], True), 0
        for n in sizes:
            part = t[at:at + n]; at += n
            stats.accumulate(SimpleNamespace(xb=part, yb=part, pred=part, loss=part.mean(), loss_func=None))
        return stats.avg_stats
    cuts = sorted(data.draw(st.sets(st.integers(1, len(values)))) | {len(values)})
    sizes = np.diff([0, *cuts])
    for a, b in zip(average([int(n) for n in sizes]), average([len(values)])): assert math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-3)

@given(st.lists(st.floats(allow_nan=False, width=32), max_size=30), st.integers(1, 9))
def test_what_waits_comes_back_in_order(values, most):
    waiting = Waiting(); waiting.most = most
    for v in values: waiting.append(torch.tensor(v))
    assert waiting.values == values and len(waiting) == len(values)
    again = Waiting(); again.load_state_dict(waiting.state_dict()); assert again.values == values

@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0., .99))
def test_a_moving_average_stays_among_what_it_averages(ys, beta):
    for i, v in enumerate(smoothed(ys, beta)): assert min(ys[:i + 1]) - 1e-6*max(map(abs, ys)) - 1e-9 <= v <= max(ys[:i + 1]) + 1e-6*max(map(abs, ys)) + 1e-9

# Events
class Acts(Callback):
    "At some of its events it stops, raises, or replaces the batch"
    def __init__(self, number, acts, trace): self.number, self.acts, self.trace, self.calls, self.name = number, acts, trace, 0, f'acts_{number}'
def _method(event):
    def method(self):
        self.trace.append((self.number, event, self.run.in_train))
        assert self.epoch is not None and self.model is self.run.model           # the state can be read at any event
        self.calls += 1
        act = self.acts.get((event, self.calls % 7))
        if act == 'raise': raise KeyError(event)
        if act == 'replace' and event == 'begin_batch': self.run.xb = self.xb*2
        if act == 'end': self.run.stop = True
        return True if act == 'true' and event != 'after_fit' else None
    return method
for e in EVENTS: setattr(Acts, e, _method(e))

acts = st.dictionaries(st.tuples(st.sampled_from(EVENTS), st.integers(0, 6)), st.sampled_from(('true', 'raise', 'replace', 'end')), max_size=4)
@settings(max_examples=150)
@given(st.lists(acts, min_size=1, max_size=3), st.integers(0, 2))
def test_whatever_callbacks_do_the_events_come_in_pairs(parts, epochs):
    trace, learn = [], synth_learner(32, 16)
    run = Runner([Acts(i, a, trace) for i, a in enumerate(parts)])
    try: run.fit(epochs, learn); error = None
    except KeyError as e: error = e
    raises = [a for a in parts if 'raise' in a.values()]
    assert error is None or (raises and 'acts_' in ' '.join(error.__notes__))
    for i in range(len(parts)): assert [e for n, e, _ in trace if n == i].count('after_fit') == 1       # always, and once
    assert trace[-1][1] == 'after_fit' and not run._busy and not any(p.grad is not None for p in learn.model.parameters() if error is None)
    order = [e for n, e, _ in trace if n == len(parts) - 1]
    if error is None and not any(v == 'true' for a in parts for v in a.values()):
        assert order.count('begin_batch') == order.count('after_batch') and order.count('begin_epoch') == order.count('after_epoch') == order.count('begin_validate') == epochs
    Runner(AvgStatsCallback(log=quiet)).fit(1, learn)                     # and the learner can be trained on

# Names and lists
@given(st.from_regex(r'[A-Z][a-z]*([A-Z][a-z0-9]*){0,4}', fullmatch=True))
def test_snake_case_is_lower_case_and_stays(name):
    snake = camel2snake(name)
    assert snake == snake.lower() and snake.replace('_', '') == name.lower() and camel2snake(snake) == snake

@given(st.recursive(st.integers() | st.text() | st.none(), lambda o: st.lists(o) | st.tuples(o) | st.sets(st.integers()), max_leaves=6))
def test_a_list_is_made_of_anything_once(o):
    made = listify(o)
    assert isinstance(made, list) and listify(made) is made
    assert made == ([] if o is None else [o] if isinstance(o, (str, int)) else list(o))

# Batches
leaves = st.builds(lambda n: torch.arange(3*n).view(3, n), st.integers(1, 4))
structures = st.recursive(leaves, lambda o: st.lists(o, min_size=1, max_size=3) | st.tuples(o, o) | st.dictionaries(st.text(max_size=3), o, min_size=1, max_size=3), max_leaves=6)
def equal(a, b):
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if type(a) is not type(b): return False
    if isinstance(a, dict): return [*a] == [*b] and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)

@given(structures)
def test_batches_of_any_structure_are_mapped_counted_and_joined(batch):
    assert items_in(None, batch) == 3 and equal(map_tensors(lambda t: t, batch), batch)
    doubled = map_tensors(lambda t: t*2, batch)
    assert [t.tolist() for t in tensors_in(doubled)] == [(t*2).tolist() for t in tensors_in(batch)]
    whole = joined([batch, doubled])
    assert all(torch.equal(w, torch.cat([a, b])) for w, a, b in zip(tensors_in(whole), tensors_in(batch), tensors_in(doubled), strict=True))

states = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | leaves,
                      lambda o: st.lists(o, max_size=3) | st.tuples(o, o) | st.dictionaries(st.integers() | st.text(max_size=3) | st.tuples(st.integers()), o, max_size=3), max_leaves=12)
@given(states)
def test_what_is_packed_comes_back(state):
    tensors, tree = pack(state)
    assert equal(unpack(tensors, tree), state) and all(t.is_contiguous() for t in tensors.values())

@given(st.integers(4, 40), st.integers(1, 20))
def test_a_fit_takes_the_steps_that_its_loader_has(n, bs):
    net = nn.Linear(20, 4)
    learn = Learner(net, SGD(net.parameters(), .1), nn.functional.cross_entropy, synth_learner(n, bs).data)
    run = Runner(); run.fit(2, learn)
    assert run.n_iter == run.n_step == 2*-(-n//bs) and run.n_epochs == 2.
