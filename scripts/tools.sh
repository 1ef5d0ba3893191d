# Sourced by the scripts beside it: what a machine must have, and the one virtual environment of this project.

venv=$PWD/.venv

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need PROGRAM PACKAGE: a program from one of Debian's packages. Installs it as root, else names the command.
need() {
  command -v "$1" >/dev/null 2>&1 || install_package "$2" "the program \"$1\""
}

# install_package PACKAGE WHAT: or several packages, with spaces between them.
install_package() {
  command -v apt-get >/dev/null 2>&1 || fail "$2 is missing. Install it with this system's package manager (in Debian and Ubuntu: the package $1)."
  [ "$(id -u)" = 0 ] || fail "$2 is missing. Install it with:  sudo apt-get install $1"
  say "$2 is missing: installing the package $1"
  # The lists of a fresh machine are empty or old.
  [ -n "${lists_are_fresh:-}" ] || apt-get update -qq || fail "\"apt-get update\" failed"
  lists_are_fresh=1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 >/dev/null \
    || fail "\"apt-get install $1\" failed"
}

need_rust() {
  command -v cargo >/dev/null 2>&1 \
    || fail "cargo is missing. Install Rust with rustup (https://rustup.rs), open a new shell, and try again."
  need cc build-essential
}

# need_component PROGRAM COMPONENT: a part of the Rust toolchain that a minimal installation leaves out.
need_component() {
  cargo "$1" --version >/dev/null 2>&1 && return
  command -v rustup >/dev/null 2>&1 && rustup component add "$2" >/dev/null 2>&1 && return
  fail "\"cargo $1\" is missing. Install it with:  rustup component add $2"
}

# need_python: Python 3.11 or newer that can make virtual environments.
need_python() {
  python=${PYTHON:-python3}
  need "$python" python3
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || fail "$("$python" --version) is too old for this Streamlit, which wants 3.11. Set PYTHON to a newer one:  make run PYTHON=python3.12"
  if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    # Debian ships the module for its own Python in a package of its own.
    install_package "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" "Python's module \"venv\""
  fi
}

# python_packages REQUIREMENTS [PIP ARGUMENTS]: in the virtual environment, unless they are there already.
python_packages() {
  need_python
  local requirements=$1 wanted done
  shift
  wanted=$(cat "$requirements" scripts/constraints.txt | cksum)
  done=$venv/.installed-$(printf '%s' "$requirements" | tr -c 'a-z\n' '-')
  [ "$(cat "$done" 2>/dev/null)" = "$wanted" ] && return
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || fail "\"$python -m venv $venv\" failed"
  say "installing Python packages into $venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" "$@" \
    || fail "pip could not install what $requirements names"
  printf '%s' "$wanted" >"$done"
}
