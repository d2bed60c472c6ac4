#!/bin/sh
# Make the environment of the benchmarks: this project and every peer, in a virtual environment of its own.
#
#     sh benchmarks/peers.sh [FOLDER]      # default: /tmp/ltdata-peers
#     FOLDER/bin/python benchmarks/cifar_batches.py --help
#
# On Debian and Ubuntu, as root, it installs what ffcv compiles against; elsewhere see to OpenCV 4, libturbojpeg,
# pkg-config and a C++ compiler. A peer that does not install is named at the end, and in the tables.
set -eu
cd "$(dirname "$0")/.."
PLACE=${1:-/tmp/ltdata-peers}
PIP="$PLACE/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt"

if ! pkg-config --exists opencv4 libturbojpeg; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends libopencv-dev libturbojpeg0-dev pkg-config g++ > /dev/null
fi

${PYTHON:-python3} -m venv "$PLACE"
# torch and torchvision in one command with the constraints: unconstrained, a peer would bring CUDA in gigabytes.
$PIP -e ".[train,huggingface]" torch==2.13.0 torchvision==0.28.0 webdataset==1.0.2

missing=""
peer() { $PIP "$@" || missing="$missing $*"; }
peer kornia==0.9.0
peer grain==0.2.18
peer opencv-python-headless==5.0.0.93 simplejpeg==1.9.0
peer nvidia-dali-cuda130==2.4.0
peer torchsampler==0.1.2 pandas==3.1.1
peer catalyst==22.4
# ffcv asks for packages for its benchmarks and another OpenCV; its loader needs none of them. It compiles in this environment.
peer setuptools==84.2.1 wheel==0.48.0 numba==0.68.1
peer --no-build-isolation --no-deps ffcv==1.0.2

"$PLACE/bin/python" -W ignore - << 'END'
from importlib import import_module, metadata
for name, module in (
    ("torch", "torch"), ("webdataset", "webdataset"), ("datasets", "datasets"), ("kornia", "kornia"), ("grain", "grain"),
    ("opencv-python-headless", "cv2"), ("simplejpeg", "simplejpeg"), ("nvidia-dali-cuda130", "nvidia.dali.fn"),
    ("ffcv", "ffcv.loader"), ("catalyst", "catalyst.data"), ("ltdata", "ltdata.reader"), ("ace_ref", "ace_ref.dataset"),
):
    try:
        import_module(module)
        print(f"{name:24} works", metadata.version("ltdata" if name == "ace_ref" else name))
    except Exception as error:
        print(f"{name:24} DOES NOT WORK: {type(error).__name__}: {error}")
END
test -z "$missing" || echo "not installed:$missing" >&2
