"The README's examples, run as a reader would paste them."
import re, subprocess, sys
from pathlib import Path

text = (Path(__file__).parent.parent/'README.md').read_text(encoding='utf-8')

def test_examples_run(tmp_path):
    first, second = re.findall(r'```python\n(.*?)```', text, re.S)
    lines = [l for l in first.splitlines() if l.strip()]
    assert len(lines) <= 12, f'{len(lines)} lines of example'
    def said(code):
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout
    out = said(first + second)
    assert [l.split()[0] for l in out.splitlines() if l[:6].strip().isdigit()] == ['0', '1', '2']*2 and out.count('valid_accuracy') == 2, out
    again = said(first.replace('run.fit(3, learn)', '') + second)       # the script once more: the fit is finished
    assert 'the fit is finished' in again, again

def test_it_is_short(): assert len(text.split()) <= 700

def test_links_lead_somewhere():
    root = Path(__file__).parent.parent
    for link in re.findall(r'\]\(([^)#]+)\)', text):
        if not link.startswith('http'): assert (root/link).exists(), link
