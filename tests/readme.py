"Make the README from nbs/index.ipynb: python tests/readme.py [FILE], to standard output without FILE."
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import TagRemovePreprocessor

root = Path(__file__).parent.parent

def readme() -> str:
    "The index notebook as Markdown; its links, which start from nbs/, start from the root."
    nb = nbformat.read(root/'nbs/index.ipynb', as_version=4)
    nb.metadata['language_info'] = {'name': 'python'}        # which nbdev_clean leaves out
    exporter = MarkdownExporter()
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={'hide-input'}), enabled=True)
    text = exporter.from_notebook_node(nb)[0]
    text = re.sub(r'\]\(\.\./', '](', text)
    return '<!-- Made from nbs/index.ipynb by make prepare. -->\n\n' + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'

if __name__ == '__main__':
    if len(sys.argv) > 1: Path(sys.argv[1]).write_text(readme(), encoding='utf-8')
    else: print(readme(), end='')
