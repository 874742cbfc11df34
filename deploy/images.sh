#!/usr/bin/env bash
# Builds the images, runs each one once, and checks the sizes of actor-node and replay-server. `make images` calls it.
# Usage: deploy/images.sh IMAGE...
#   BINARIES=FOLDER  use programs that are already built, instead of building them inside Docker
#   BASES=debian     make the base images from Debian packages even if a registry can be reached
#   DOCKER=PROGRAM   the docker command, if the automatic choice is wrong
#   SAPEX_TAG=TAG    tag of the images; "dev" by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tag=${SAPEX_TAG:-dev}
staged=target/images
megabytes_max=60
export DOCKER_BUILDKIT=1

# A docker command without the buildx plugin cannot use BuildKit. Another docker command on the machine may.
if [[ -z ${DOCKER:-} ]]; then
	work=$(mktemp --directory)
	trap 'rm -rf "$work"' EXIT
	printf 'FROM scratch\nCOPY --chmod=644 Dockerfile /\n' >"$work/Dockerfile"
	for candidate in docker /usr/bin/docker; do
		if "$candidate" build --quiet "$work" >/dev/null 2>"$work/log"; then
			DOCKER=$candidate
			break
		fi
	done
	if [[ -z ${DOCKER:-} ]]; then
		cat "$work/log" >&2
		echo "deploy/images.sh: no docker command here builds with BuildKit; DOCKER=PROGRAM names another one" >&2
		exit 3
	fi
fi
export DOCKER
echo "docker          $("$DOCKER" --version), as $(command -v "$DOCKER")"

# Prints the base image of a kind: the pinned one if it exists locally or can be pulled, else one made from Debian
# packages.
base() {
	local kind=$1 pinned ours=sapex/base-$1:bookworm
	pinned=$(sed -n "s/^ARG BASE_${kind^^}=//p" Dockerfile)
	if [[ ${BASES:-} != debian ]] && { "$DOCKER" image inspect "$pinned" || "$DOCKER" pull --quiet "$pinned"; } >/dev/null 2>&1; then
		echo "$pinned"
		return
	fi
	"$DOCKER" image inspect "$ours" >/dev/null 2>&1 || deploy/bases.sh "$kind" "$ours" >&2
	echo "$ours"
}

arguments=(
	--build-arg "VERSION=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)"
	--build-arg "REVISION=$(git describe --always --dirty --abbrev=10 2>/dev/null || true)"
)
programs=()
roles=()
for image in "$@"; do
	if [[ $image == prometheus ]]; then
		base=$(base prometheus)
		arguments+=(--build-arg "BASE_PROMETHEUS=$base")
		echo "base/prometheus $base"
	else
		roles+=("$image")
		programs+=("$image")
	fi
done
if [[ ${#roles[@]} != 0 ]]; then
	base=$(base run)
	arguments+=(--build-arg "BASE_RUN=$base")
	echo "base/run        $base"
fi
if [[ -n ${BINARIES:-} ]]; then
	deploy/stage.sh "$BINARIES" "$staged" "${programs[@]}"
	context=$staged
	arguments+=(--build-arg PROGRAMS=prebuilt)
	echo "programs        $BINARIES; their debug information is in $staged/debug"
else
	context=.
	if [[ ${#roles[@]} != 0 ]]; then
		base=$(base build)
		arguments+=(--build-arg "BASE_BUILD=$base")
		echo "base/build      $base"
	fi
fi

for image in "$@"; do
	"$DOCKER" build --quiet "${arguments[@]}" --file Dockerfile --target "$image" --tag "sapex/$image:$tag" "$context" >/dev/null
done
if [[ -z ${BINARIES:-} && " ${roles[*]} " == *" actor-node "* ]]; then
	"$DOCKER" build --quiet "${arguments[@]}" --target debug --output "$staged/debug" "$context"
	echo "programs        built here; their debug information is in $staged/debug"
fi

failed=0
for image in "$@"; do
	bytes=$("$DOCKER" image inspect --format '{{.Size}}' "sapex/$image:$tag")
	# Run the image as a cluster does: without network and capabilities, and with a read-only root.
	said=$("$DOCKER" run --rm --network none --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
		"sapex/$image:$tag" --version 2>&1 | head -n 1)
	verdict=
	case $image in
	actor-node | replay-server)
		verdict=", at most $megabytes_max"
		if ((bytes > megabytes_max * 1000000)); then
			verdict+=": TOO LARGE"
			failed=1
		fi
		;;
	esac
	printf '%-15s %5.1f MB%s (%s)\n' "$image" "$((bytes / 100000))e-1" "$verdict" "$said"
done
exit $failed
