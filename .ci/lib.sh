# What .ci/run and .ci/full share: README's commands, fresh copies of the committed tree,
# the Pythons, and checks that are timed one by one.
root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 # errors only
failed=()

readme_command() { # readme_command PATTERN: README's set-up line that matches PATTERN
  grep -m 1 -E "^python3 -m venv .*$1" "$root/README.md"
}

readme_install() { # the part of README's test command that installs, without the tests
  local command
  command=$(readme_command '-m pytest')
  echo "${command%% && .venv/bin/python -m pytest*}"
}

readme_tests() { # the other part
  readme_command '-m pytest' | sed 's/.* && //'
}

fresh_copy() { # fresh_copy PYTHON COMMAND: go to a new clone; COMMAND sets it up there
  cd "$work"
  rm -rf copy
  git clone --quiet --no-hardlinks "$root" copy
  cd copy
  check "install, $("$1" --version)" eval "${2/#python3/\"$1\"}"
}

check() { # check NAME COMMAND...: runs it, says how long it took, remembers a failure
  local name=$1 start=$SECONDS status=0
  shift
  echo "== $name"
  "$@" || status=$?
  echo "-- $name: $((SECONDS - start)) s$([ $status = 0 ] || echo ", FAILED ($status)")"
  [ $status = 0 ] || failed+=("$name")
}

verdict() { # what failed, and its exit status
  [ ${#failed[@]} = 0 ] && echo "all passed" && return
  printf 'FAILED: %s\n' "${failed[@]}"
  return 1
}

every_python() { # the paths of the Pythons from 3.11 on that can be found, newest first
  for python in $(compgen -c python3 | grep -E '^python3(\.[0-9]+)?$' | sort -u) \
    "$HOME"/.pyenv/versions/3.*/bin/python3; do
    "$python" -c 'import sys, venv
if sys.version_info >= (3, 11):
    print("%d.%02d %s" % (*sys.version_info[:2], sys.executable))' 2>/dev/null || true
  done | sort -r | awk '!seen[$1]++ { print $2 }'
}

newest_python() {
  every_python | head -n 1
}

doctests() { # in processes of their own, with a user's settings: no tests/conftest.py
  .venv/bin/python -m pytest -q -n auto --doctest-modules vaejax
}

docs() { # without a network; warnings are errors; notebooks as they were committed
  env https_proxy=http://127.0.0.1:9 http_proxy=http://127.0.0.1:9 \
    .venv/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build
}
