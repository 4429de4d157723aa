#!/bin/sh
# Installs ww-static, from a checkout or a wheel, with its dependencies into a folder: no bytecode, no tests of others.
# Usage: sh ci/install.sh FOLDER CHECKOUT-OR-WHEEL; the variable PYTHON names another interpreter.
set -eu
"${PYTHON:-python3}" -I -m pip install --quiet --disable-pip-version-check --no-compile --target "$1" "$2"
find "$1" -depth -type d \( -name tests -o -name test \) -exec rm -r {} +
