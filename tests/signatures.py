"""What the package promises by name: each public function's parameters and defaults, each constant.

    python tests/signatures.py          writes tests/signatures.txt anew, so that a change of the interface is seen in its diff
"""
import importlib, inspect, re
from pathlib import Path

root = Path(__file__).resolve().parent.parent
PLACES = ('_order', '_orders')            # of callbacks: whom they see before them is promised too

def described(name, o):
    "Lines that say what `o` takes, or is."
    if inspect.isclass(o):
        lines = [f'{name}{signature(o)}'] if '__init__' in vars(o) or hasattr(o, '_fields') else [name]
        own = [(k, getattr(v, '__func__', v)) for k, v in vars(o).items() if not k.startswith('_') or k in PLACES]
        return lines + [f'{name}.{k}{signature(v)}' for k, v in own if inspect.isfunction(v)] + \
            [f'{name}.{k} = {constant(v)}' for k, v in own if isinstance(v, (bool, int, float, str, tuple, dict))]
    if inspect.isroutine(o): return [f'{name}{signature(o)}']
    return [f'{name} = {constant(o)}']

def signature(f): # without annotations, which Python's versions print differently
    params = [p.replace(annotation=p.empty) for p in inspect.signature(f).parameters.values()]
    return constant(inspect.Signature(params))
def constant(o): # a function is one, wherever it lies
    text = str(o) if isinstance(o, inspect.Signature) else repr(o)
    return re.sub(r'<[^<>]*(<\w+>[^<>]*)*>|functools\.partial\(.*?\)', '…', text)

def current() -> str:
    lines = []
    for path in sorted((root/'minitrain').rglob('*.py')):
        name = '.'.join(path.relative_to(root/'minitrain').with_suffix('').parts)
        if path.stem.startswith('_') or name == 'all': continue
        module = importlib.import_module(f'minitrain.{name}')
        mine = [(k, getattr(module, k)) for k in module.__all__]
        own = [(k, o) for k, o in mine if getattr(o, '__module__', module.__name__) == module.__name__]
        lines += [f'# {name}', *(l for k, o in own for l in described(k, o)), '']
    return '\n'.join(lines)

if __name__ == '__main__': (root/'tests'/'signatures.txt').write_text(current(), encoding='utf-8')
