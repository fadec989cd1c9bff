"What is promised by name."
from pathlib import Path
import signatures

def test_the_interface_is_as_written_down():
    "A default, a parameter, a callback's place or a constant that changes is seen in the diff of tests/signatures.txt."
    kept = Path(__file__).with_name('signatures.txt').read_text(encoding='utf-8').splitlines()
    changed = sorted({*signatures.current().splitlines()} ^ {*kept})
    assert not changed, 'meant to be so? python tests/signatures.py'
