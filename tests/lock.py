"""Make requirements-ci.txt: what the tests need, each file by its hash, on all systems and Pythons that CI has.

    python tests/lock.py        what make lock runs; wants uv

PyTorch itself is left out, since CI takes the build for CPUs, whose files are others; and with it what only its build for GPUs brings.
"""
import re, subprocess, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
head = '# Every file that CI installs, by its hash: pip install --require-hashes --no-deps -r requirements-ci.txt. Made by make lock.\n'

def entries(text) -> list: # Of each package its lines
    return re.findall(r'^[A-Za-z0-9].*?(?=^[A-Za-z0-9]|\Z)', text, re.M | re.S)

def main():
    done = subprocess.run(['uv', 'pip', 'compile', 'setup.py', '--extra', 'dev', '--universal', '--python-version', '3.11', '--generate-hashes', '-c', 'constraints.txt',
                           '--index-strategy', 'unsafe-best-match', '--no-header', '--no-annotate', '--quiet', *sys.argv[1:]], cwd=root, capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr)
    kept = [e for e in entries(done.stdout) if not re.match(r'(nvidia|cuda|triton|torch==)', e)]
    (root/'requirements-ci.txt').write_text(head + ''.join(kept))

if __name__ == '__main__': main()
