#!/usr/bin/env bash
# Create the virtual environment given as first argument and install the project into it.
# With a ROS 2 installation sourced its rclpy is used; otherwise the ROS 2 Jazzy wheels are.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

fail() { echo "setup: $1" >&2; exit 2; }

# The interpreter must have venv, and match the ROS wheels (3.11, 3.12) or the sourced ROS.
usable() { "$1" -c 'import ensurepip, sys; sys.exit(not (3, '"$2"') <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    if usable "$candidate" "$1"; then echo "$candidate"; return; fi
  done
}

ros=wheels
if [ -n "${ROS_DISTRO:-}" ]; then
  python=$(find_python 10)
  [ -n "$python" ] && "$python" -c 'import rclpy' 2>/dev/null && ros=sourced
fi
if [ "$ros" = wheels ]; then python=$(find_python 11); fi
[ -n "${python:-}" ] || fail "needs Python 3.11 or 3.12 with venv (on Debian and Ubuntu: apt install python3-venv), or PYTHON=/path/to/one"

constraints=constraints.txt
extras=all,dev,docs,ros
if [ "$ros" = sourced ]; then
  echo "setup: ROS 2 $ROS_DISTRO is sourced, using its rclpy ($("$python" --version))"
  extras=all,dev,docs
  # ROS binaries load only the major numpy that they were built with, which is the system's.
  constraints=$(mktemp)
  trap 'rm -f "$constraints"' EXIT
  grep -viE '^(numpy|scipy|minari|ml_dtypes|ros-)' constraints.txt > "$constraints"
  "$python" -c 'import numpy; print(f"numpy=={numpy.__version__.partition(chr(46))[0]}.*")' >> "$constraints"
else
  echo "setup: installing into $venv with $("$python" --version) and the ROS 2 Jazzy wheels (a minute or two)"
fi

rm -rf "$venv"
"$python" -m venv "$venv"
# torch first: with it in place, nothing else can pull in another build of it.
"$venv/bin/pip" install --quiet --disable-pip-version-check -c "$constraints" "$(grep '^torch==' constraints.txt)"
"$venv/bin/pip" install --quiet --disable-pip-version-check -c "$constraints" --editable ".[$extras]"
"$venv/bin/python" -c 'import rclpy, torch, mujoco, minari' || fail "the installation is incomplete; run 'make clean' and try again"
echo "setup: done"
