#!/usr/bin/env bash
# Put a built site on the branch gh-pages: main at its root, a tag in a folder of its name; what other versions have there stays.
#     docs/publish.sh FOLDER branch|tag NAME
set -euo pipefail
site=$(realpath "$1") kind=$2 name=$3
work=$(mktemp -d)
git worktree add -q --detach "$work"
cd "$work"
if git fetch -q origin gh-pages 2>/dev/null; then git checkout -q --detach FETCH_HEAD
else git checkout -q --orphan gh-pages && git rm -rfq .; fi
if [ "$kind" = tag ]; then
    rm -rf "./$name"
    cp -r "$site" "./$name"
else
    find . -mindepth 1 -maxdepth 1 ! -name .git ! -name 'v[0-9]*' -exec rm -rf {} +
    cp -r "$site/." .
fi
touch .nojekyll
git add -A
git diff --cached --quiet || git -c user.name=site -c user.email=site@localhost commit -qm "Site of $name"
git push -q origin HEAD:refs/heads/gh-pages
cd - >/dev/null
git worktree remove --force "$work"
