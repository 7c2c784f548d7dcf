#!/usr/bin/env bash
# A wheel that was built here runs in an environment of its own without a compiler; and where there is none, the source installs
# without the compiled part and says what is missing.
#
#     install.sh PYTHON
set -euo pipefail
if ! command -v "${CXX:-g++}" > /dev/null; then
  echo "there is no C++ compiler here, so no wheel is built"
  exit 0
fi
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git archive --format=tar HEAD | (mkdir "$place/source" && tar -x -C "$place/source")
pip=(-m pip --quiet --disable-pip-version-check)

jax=$("$python" -c 'import jax; print(f"jax=={jax.__version__} jaxlib=={jax.__version__}")')
"$python" "${pip[@]}" wheel --no-deps --wheel-dir "$place" "$place/source"
wheel=$(echo "$place"/jbnn-*.whl)
echo "built $(basename "$wheel")"
case $wheel in *-py3-none-any.whl) echo "which has no compiled part" && exit 1 ;; esac

export CC=/nonexistent CXX=/nonexistent
"$python" -m venv "$place/venv"
cd "$place"
venv/bin/python "${pip[@]}" install "$wheel" $jax
venv/bin/python -W error - <<'PROGRAM'
import jax.numpy as jnp
import jbnn

assert jbnn.implementations()["simd"] is None, jbnn.implementations()
x, w = jbnn.pack(jnp.ones((2, 64))), jbnn.pack(jnp.ones((64, 3)), axis=-2)
print("from the wheel:", jbnn.packed_dense(x, w, channels=64, implementation="simd").tolist())
PROGRAM

rm -rf "$place/source/build"
venv/bin/python "${pip[@]}" install --force-reinstall --no-deps "$place/source"
venv/bin/python -W error - <<'PROGRAM'
import jax.numpy as jnp
import jbnn

reason = jbnn.implementations()["simd"]
assert reason is not None and "compiler" in reason, reason
x, w = jbnn.pack(jnp.ones((2, 64))), jbnn.pack(jnp.ones((64, 3)), axis=-2)
print("from the source:", jbnn.packed_dense(x, w, channels=64).tolist(), "and simd:", reason)
PROGRAM
