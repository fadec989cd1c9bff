"""The long campaigns: kills, faults and damaged files by the thousand, every step of a run killed and continued.

    python tests/campaign.py            writes results/trust.json, with the seed that it drew: what make campaign runs
    python tests/campaign.py --seed 7   again, with this one
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def record(name, **figures):
    "Note figures of a test, where somebody asks for them"
    path = os.environ.get('MINITRAIN_RECORD')
    if not path: return
    with open(path, 'a') as file: file.write(json.dumps(dict(name=name, **figures)) + '\n')

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seed', type=int, default=int(time.time()))
    seed = parser.parse_args().seed
    print(f'seed {seed}', flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        notes = Path(tmp)/'notes'
        env = dict(os.environ, MINITRAIN_CAMPAIGN='1', MINITRAIN_SEED=str(seed), MINITRAIN_RECORD=str(notes), OMP_NUM_THREADS='1')
        done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/test_crash.py', 'tests/test_checkpoint.py'], cwd=root, env=env)
        lines = [json.loads(l) for l in notes.read_text().splitlines()]
    if done.returncode: sys.exit('not all of it went well: nothing is recorded')
    from minitrain.core import environment
    found = {}
    for line in lines: found.setdefault(line.pop('name'), []).append(line)
    results = dict(seed=seed, environment=environment(threads=1), **found)
    (root/'results'/'trust.json').write_text(json.dumps(results, indent=1) + '\n')

if __name__ == '__main__': main()
