"Worker processes: the same batches in the same order, whatever their number, and nothing drawn from the global generator."
import torch
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset
from minitrain.minibatch import DataLoader, Dataset, get_dls
import pytest

class Noisy(torch.utils.data.Dataset):
    "Items with random noise, drawn where they are fetched"
    def __len__(self): return 12
    def __getitem__(self, i): return torch.tensor([i + torch.rand(()).item()]), torch.tensor(i)

def same(a, b):
    a, b = list(a), list(b)
    return len(a) == len(b) > 0 and all(torch.equal(p, q) for u, v in zip(a, b) for p, q in zip(u, v))

x, y = torch.arange(22.).view(11, 2), torch.arange(11)

@pytest.mark.parametrize('ds', [Dataset(x, y), TensorDataset(x, y)], ids=['ours', "PyTorch's"])
@pytest.mark.parametrize('drop_last', [False, True])
def test_same_batches(ds, drop_last):
    kw = dict(shuffle=True, drop_last=drop_last, seed=3)
    none, two = DataLoader(ds, 4, **kw), DataLoader(ds, 4, num_workers=2, **kw)
    assert len(none) == len(two) == (2 if drop_last else 3)
    first = list(none)
    assert same(first, two) and same(none, two) and not same(first, none)       # epoch by epoch
    assert same(DataLoader(ds, 4, num_workers=2), TorchDataLoader(ds, 4))
    again = DataLoader(ds, 4, num_workers=2, **kw)
    assert same(list(DataLoader(ds, 4, **kw))[1:], again.iter_from(1))

def test_noise_of_workers_differs_by_epoch_and_repeats_by_seed():
    state = torch.get_rng_state()
    runs = [DataLoader(Noisy(), 4, num_workers=2, seed=s, shuffle=True) for s in (1, 1, 2)]
    epochs = [[list(dl), list(dl)] for dl in runs]
    assert same(epochs[0][0], epochs[1][0]) and same(epochs[0][1], epochs[1][1])
    assert not same(epochs[0][0], epochs[2][0])
    noise = [sorted((v % 1).item() for xb, _ in e for v in xb) for e in epochs[0]]
    assert noise[0] != noise[1]
    assert torch.equal(state, torch.get_rng_state())

def test_noise_of_workers_with_a_sampler_of_pytorch():
    def noise(seed):
        torch.manual_seed(seed)
        dl = DataLoader(Noisy(), 4, sampler=torch.utils.data.SequentialSampler(Noisy()), num_workers=2)
        return [[v for xb, _ in dl for v in xb.flatten().tolist()] for _ in range(2)]
    a, again, other = noise(1), noise(1), noise(2)
    assert a == again and a[0] != a[1] and a != other

class Told(Noisy):
    offset = 0
    def __getitem__(self, i): return torch.tensor([float(i + self.offset)]), torch.tensor(i)

def add_7(worker): torch.utils.data.get_worker_info().dataset.ds.offset = 7

def test_options_reach_the_workers():
    seen = list(DataLoader(Told(), 4, num_workers=1, worker_init_fn=add_7, timeout=1000))
    assert seen[0][0].flatten().tolist() == [7., 8., 9., 10.]
    train, valid = get_dls(Noisy(), Noisy(), 4, num_workers=1, timeout=1000)
    assert (len(list(train)), len(list(valid))) == (3, 2)

def drawn(workers, start=0, **kw):
    dl = DataLoader(Noisy(), 5, shuffle=True, seed=3, num_workers=workers, **kw)
    dl.set_epoch(2)
    return torch.cat([xb for xb, _ in dl.iter_from(start)]).flatten()

@pytest.mark.parametrize('start', (0, 1, 2))
def test_what_an_item_draws_depends_on_its_place_alone(start):
    "Not on the number of workers, nor on where the epoch was begun; and a loader that is told the state of another goes on as that one"
    whole, state = drawn(0), torch.get_rng_state()
    assert whole.unique().numel() == 12 and torch.equal(state, torch.get_rng_state())
    for workers in (0, 1, 2): assert torch.equal(drawn(workers, start), whole[5*start:])
    a, b = DataLoader(Noisy(), 5, shuffle=True), DataLoader(Noisy(), 5, shuffle=True)
    list(a); b.load_state_dict(a.state_dict())
    assert same(list(a)[start:], b.iter_from(start))
