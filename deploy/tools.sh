#!/usr/bin/env bash
# Downloads Debian packages and unpacks them in .deploy-tools/. Nothing is installed on the machine.
# Usage: deploy/tools.sh PACKAGE...
# Exit status 3 means that a package could not be fetched. The caller then reports SKIPPED.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$PWD/.deploy-tools
mkdir -p "$tools/packages"
for package in "$@"; do
	if [[ -e $tools/packages/$package.ready ]]; then
		continue
	fi
	if ! command -v apt-get >/dev/null; then
		echo "deploy/tools.sh: $package: this machine has no apt-get" >&2
		exit 3
	fi
	folder=$(mktemp --directory "$tools/packages/$package.XXXXXX")
	if ! (cd "$folder" && { apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }; }) >"$folder/log" 2>&1; then
		cat "$folder/log" >&2
		rm -rf "$folder"
		echo "deploy/tools.sh: $package could not be fetched" >&2
		exit 3
	fi
	dpkg-deb --extract "$folder"/*.deb "$tools"
	rm -rf "$folder"
	touch "$tools/packages/$package.ready"
done
