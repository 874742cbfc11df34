#!/usr/bin/env bash
# Makes a base image from Debian packages, for machines that cannot reach a registry.
# Usage: deploy/bases.sh run|build|prometheus TAG
# The build base gets the Rust toolchain of this machine, because Debian's version is too old.
# Exit status 3 means that the packages could not be fetched. The caller then reports SKIPPED.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
docker=${DOCKER:-docker}
suite=bookworm
what=$1
tag=$2

case $what in
run) packages=base-files,libc6,libgcc-s1,libstdc++6,tzdata ;;
# xtask fetches libraries from PyPI with pip.
build) packages=binutils,ca-certificates,gcc,g++,libc6-dev,python3-pip ;;
# Only the program is taken from Debian's Prometheus, because the package depends on 300 MB for a system service.
prometheus) packages=base-files,libc6,tzdata ;;
*)
	echo "deploy/bases.sh: $what is none of run, build, prometheus" >&2
	exit 2
	;;
esac

# Root is needed to keep the owners of files. Other users are root in a user namespace.
mode=root
[[ $(id -u) == 0 ]] || mode=unshare
mmdebstrap=$(command -v mmdebstrap || true)
if [[ -z $mmdebstrap ]]; then
	deploy/tools.sh mmdebstrap
	mmdebstrap=$PWD/.deploy-tools/usr/bin/mmdebstrap
fi
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT

# The packages are extracted but not configured, so the users that their scripts would create are created here.
variant=(--variant=extract)
hooks=()
users='root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n'
groups='root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n'
case $what in
run | prometheus)
	if [[ $what == prometheus ]]; then
		deploy/tools.sh prometheus
		hooks+=("--extract-hook=mkdir -p \"\$1/usr/bin\" \"\$1/usr/share\"")
		hooks+=("--extract-hook=cp '$PWD/.deploy-tools/usr/bin/prometheus' \"\$1/usr/bin/\"; cp -r '$PWD/.deploy-tools/usr/share/prometheus' \"\$1/usr/share/\"")
	fi
	hooks+=("--extract-hook=printf '$users' >\"\$1/etc/passwd\"; printf '$groups' >\"\$1/etc/group\"")
	# Remove files that no program reads.
	hooks+=("--extract-hook=cd \"\$1\"; rm -rf usr/share/doc usr/share/gcc usr/share/info usr/share/lintian usr/share/locale usr/share/man usr/lib/*/gconv usr/bin/*awk var/lib/apt var/lib/dpkg var/cache/apt")
	;;
build)
	variant=(--variant=minbase)
	# Such machines often use a proxy for crates and packages, whose CA only they have.
	hooks+=("--customize-hook=upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt")
	;;
esac

if ! "$mmdebstrap" --quiet --mode=$mode "${variant[@]}" --include=$packages "${hooks[@]}" $suite "$work/root.tar" 2>"$work/log"; then
	cat "$work/log" >&2
	echo "deploy/bases.sh: Debian's packages could not be fetched" >&2
	exit 3
fi

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
changes=(--change "ENV PATH=$path")
if [[ $what == build ]]; then
	changes=(--change "ENV PATH=/usr/local/cargo/bin:$path" --change "ENV CARGO_HOME=/usr/local/cargo")
fi
"$docker" import "${changes[@]}" --message "Debian $suite: $packages" "$work/root.tar" "$tag" >/dev/null
if [[ $what == build ]]; then
	printf '%s\n' "FROM $tag" 'COPY bin /usr/local/cargo/bin' 'COPY lib /usr/local/cargo/lib' |
		DOCKER_BUILDKIT=1 "$docker" build --quiet --tag "$tag" --file - "$(rustc --print sysroot)" >/dev/null
fi
echo "$tag: made from Debian's packages"
