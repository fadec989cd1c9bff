"Everything that setuptools asks is answered in settings.ini, which nbdev reads too."
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

def readme() -> str:
    "The README as a package index shows it: what lies beside it here is linked to where it lies on GitHub."
    text = (here/'README.md').read_text(encoding='utf-8')
    at = lambda kind: f"{cfg['git_url']}/{kind}/{cfg['branch']}/"
    text = re.sub(r'!\[([^]]*)\]\((?!https?:)', lambda m: f'![{m[1]}]({at("raw")}', text)
    return re.sub(r'\]\((?!https?:|#)', lambda m: f']({at("blob")}', text)

class BuildWithLedger(build_py):
    "The ledger goes into the package, where `importlib.resources` finds it; a checkout reads its own."
    def run(self):
        super().run()
        if not self.editable_mode: self.copy_file(str(here/'results'/'claims.json'), str(Path(self.build_lib)/cfg['lib_path']/'lab'))

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=readme(),
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'].split(),
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=[cfg['lib_path'], f"{cfg['lib_path']}.lab"],
    cmdclass=dict(build_py=BuildWithLedger),
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require={k: cfg[f'{k}_requirements'].split() for k in ('dev', 'lab', 'onnx', 'tensorboard')},
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
    package_data={cfg['lib_path']: ['py.typed']},
    classifiers=['Development Status :: 4 - Beta', 'Intended Audience :: Developers', 'Intended Audience :: Education',
                 'Intended Audience :: Science/Research', 'Operating System :: OS Independent', 'Typing :: Typed',
                 *(f'Programming Language :: Python :: {v}' for v in ('3', '3.11', '3.12', '3.13', '3.14')),
                 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    zip_safe=False,
)
