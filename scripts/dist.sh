#!/usr/bin/env bash
# Wheel and sdist, built into dist/ and checked; the wheel is installed without the checkout into a
# new environment that sees the dependencies of $PYTHON, and a new project is fitted there.
set -euo pipefail
python=$(realpath -s "${PYTHON:-python3}")
cd "$(dirname "$0")/.."
rm -rf dist
told=$("$python" -m build --no-isolation --outdir dist . 2>&1) || { echo "$told" >&2; exit 1; }
"$python" -m twine check --strict dist/*
sha256sum dist/*.tar.gz

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
wheel=$(realpath dist/*.whl)
"$python" -m venv "$place/venv"
site() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
"$place/venv/bin/pip" install -q --no-deps "$wheel"
# Its folder comes after the wheel's, and so does an editable install that it may hold.
echo "import site; site.addsitedir('$(site "$python")')" \
    > "$(site "$place/venv/bin/python")/dependencies.pth"

cd "$place"
unset PYTHONPATH
PATH=$place/venv/bin:$PATH
python -c 'import btc_datamodule, sys; sys.exit(sys.prefix not in btc_datamodule.__file__)'
btc-datamodule new my_project
cd my_project
btc-datamodule fit --config config.yaml --quiet
btc-datamodule predict --config config.yaml --ckpt_path checkpoints/model.ckpt \
    --return_predictions=false --quiet
test -s forecasts.parquet
echo "the wheel fits and predicts without the checkout"
