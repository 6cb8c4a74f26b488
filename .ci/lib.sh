# What .ci/run and .ci/full share: README's commands, fresh copies of the committed tree, and the newest Python.
root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

readme_command() { # readme_command PATTERN: README's set-up line that ends in what PATTERN matches
  grep -m 1 -E "^python3 -m venv .*$1" "$root/README.md"
}

in_fresh_copy() { # in_fresh_copy PYTHON COMMAND: COMMAND in a new clone, with PYTHON in place of python3
  git clone --quiet --no-hardlinks "$root" "$work/copy"
  echo "== $("$1" --version): ${2%%$'\n'*}"
  (cd "$work/copy" && eval "${2/#python3/\"$1\"}")
  rm -rf "${work:?}/copy"
}

newest_python() { # the path of the newest Python 3 that can be found
  for python in $(compgen -c python3 | grep -E '^python3(\.[0-9]+)?$' | sort -u) "$HOME"/.pyenv/versions/3.*/bin/python3; do
    "$python" -c 'import sys, venv; print("%d.%02d %s" % (*sys.version_info[:2], sys.executable))' 2>/dev/null || true
  done | sort -r | head -n 1 | cut -d ' ' -f 2
}
