"The README's example, run as a reader would paste it."
import re, subprocess, sys
from pathlib import Path

text = (Path(__file__).parent.parent/'README.md').read_text(encoding='utf-8')

def test_example_runs(tmp_path):
    example, = [b for b in re.findall(r'```python\n(.*?)```', text, re.S) if 'from minitrain' in b]
    lines = [l for l in example.splitlines() if l.strip()]
    assert len(lines) <= 15, f'{len(lines)} lines of example'
    done = subprocess.run([sys.executable, '-c', example], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count('valid: [') == 3, done.stderr

def test_links_lead_somewhere():
    root = Path(__file__).parent.parent
    for link in re.findall(r'\]\(([^)#]+)\)', text):
        if not link.startswith('http'): assert (root/link).exists(), link
