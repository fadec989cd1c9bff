// Small mends of what the theme leaves: folded checks open for a link into them, the menu can be reached by keyboard,
// what scrolls takes focus; and the ledger's table sorts and filters.
'use strict';
if (location.protocol === 'file:' && window.DOCUMENTATION_OPTIONS) DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

function openTo(hash) {
  const target = hash && document.getElementById(decodeURIComponent(hash.slice(1)));
  for (let e = target; e; e = e.parentElement) if (e.tagName === 'DETAILS') e.open = true;
  if (target) target.scrollIntoView();
}
window.addEventListener('hashchange', () => openTo(location.hash));

document.addEventListener('DOMContentLoaded', () => {
  if (location.hash) openTo(location.hash);
  document.querySelectorAll('article pre, article .table-wrapper').forEach(e => {
    if (e.scrollWidth > e.clientWidth) e.tabIndex = 0;
  });
  const table = document.querySelector('table.ledger');
  if (table) ledger(table);
});

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
