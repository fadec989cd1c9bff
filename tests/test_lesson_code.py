"The lesson's own lines, in a module of their own: a star import would bring pytest names that look like tests."
import subprocess, sys
import pytest
import lesson_code

@pytest.mark.parametrize('name', [n for n in dir(lesson_code) if n.startswith('lesson_')])
def test_lesson(name): getattr(lesson_code, name)()

def test_one_import_is_enough():
    code = 'from minitrain.all import *\nprint(Dataset.__module__, init.__name__, sorted(set(dir()) & {"data", "Events"}))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('minitrain.loader torch.nn.init []\n', '')
