// Small mends of what the theme leaves: folded checks open for a link into them, the menu can be reached by keyboard,
// what scrolls takes focus; and the ledger's table sorts and filters.
'use strict';
if (location.protocol === 'file:' && typeof DOCUMENTATION_OPTIONS === 'object') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

function openTo(hash) {
  const target = hash && document.getElementById(decodeURIComponent(hash.slice(1)));
  for (let e = target; e; e = e.parentElement) if (e.tagName === 'DETAILS') e.open = true;
  if (target) target.scrollIntoView();
}
window.addEventListener('hashchange', () => openTo(location.hash));

document.addEventListener('DOMContentLoaded', () => {
  if (location.hash) openTo(location.hash);
  document.querySelectorAll('.caption[role=heading]').forEach(e => e.setAttribute('aria-level', '2'));
  const tools = document.querySelector('.content-icon-container');
  if (tools) { tools.setAttribute('role', 'navigation'); tools.setAttribute('aria-label', 'This page'); }
  if (!document.querySelector('h1')) document.querySelector('[role=main]')?.insertAdjacentHTML('afterbegin', '<h1 class="visually-hidden">Search</h1>');
  for (const [name, label] of [['__navigation', 'Menu'], ['__toc', 'On this page']]) drawer(name, label);
  document.querySelectorAll('article pre, article .table-wrapper').forEach(e => {
    if (e.scrollWidth > e.clientWidth) e.tabIndex = 0;
  });
  const table = document.querySelector('table.ledger');
  if (table) ledger(table);
});

// The theme's drawers are check boxes with labels, which no key reaches: buttons in their place.
function drawer(name, said) {
  const box = document.getElementById(name);
  if (!box) return;
  const buttons = [...document.querySelectorAll(`label[for=${name}]`)].filter(l => !l.classList.contains('overlay')).map(label => {
    const button = document.createElement('button');
    button.className = label.className;
    button.append(...label.childNodes);
    button.setAttribute('aria-label', said);
    button.addEventListener('click', () => box.click());
    label.replaceWith(button);
    return button;
  });
  const show = () => buttons.forEach(b => b.setAttribute('aria-expanded', box.checked));
  box.addEventListener('change', show);
  show();
  document.addEventListener('keydown', e => { if (e.key === 'Escape' && box.checked) { box.click(); buttons[0].focus(); } });
}

function ledger(table) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const words = document.getElementById('ledger-words'), verdict = document.getElementById('ledger-verdict');
  const count = document.getElementById('ledger-count');
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted.every(w => text.includes(w)) && (!verdict.value || row.dataset.verdict === verdict.value));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} figures`;
  };
  words.addEventListener('input', filter);
  verdict.addEventListener('change', filter);
  heads.forEach((head, i) => head.querySelector('button')?.addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    heads.forEach(h => h.hasAttribute('aria-sort') && h.setAttribute('aria-sort', 'none'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = row => row.cells[i].dataset.sort ?? '';
    const numbers = rows.every(r => key(r) === '' || !isNaN(key(r)));
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === '' || y === '') return (x === '') - (y === '');       // what has no figure stays below
      return (numbers ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
    });
    body.append(...rows);
  }));
}
