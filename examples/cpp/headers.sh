#!/bin/sh
# headers.sh FOLDER: ONNX Runtime's C and C++ headers, for systems without libonnxruntime-dev, such as Debian 12.
#
# Microsoft publishes them with the library in archives and for NuGet; of what npm and PyPI have, it is this package for Unity
# that carries them unchanged (ONNX Runtime 1.29; headers of an older release go with a newer library).
set -eu
[ $# -eq 1 ] || { echo "usage: headers.sh FOLDER" >&2; exit 2; }

package=com.github.asus4.onnxruntime@0.4.9 # 150 MB
sha256=e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d
inside="package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive="$work/$(npm pack --silent --fetch-retries=1 --pack-destination "$work" "$package")"
echo "$sha256  $archive" | sha256sum --check --quiet
tar -xzf "$archive" -C "$work" "$inside"
mkdir -p "$1"
cp "$work/$inside"/onnxruntime_*.h "$1"
