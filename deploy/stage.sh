#!/usr/bin/env bash
# Lays out what each image holds: its program without debug information, and the libraries that the program finds only
# where it was built.
# Usage: deploy/stage.sh FROM TO IMAGE...
# FROM holds the programs. TO/IMAGE becomes the image's files, TO/debug/IMAGE.debug its debug information.
set -euo pipefail
from=$1
to=$2
shift 2
rm -rf "$to"
mkdir -p "$to/debug"

# Libraries are up to half a gigabyte: they are linked where the file system can.
take() {
	ln --logical --force "$1" "$2" 2>/dev/null || cp --dereference "$1" "$2"
}

# Prints the files that ELF file $1 loads from folders that it names itself, and what those load in turn.
libraries() {
	local dynamic folders folder name
	dynamic=$(readelf --dynamic --wide "$1")
	folders=$(sed -n 's/.*(R\(UN\)\?PATH).*\[\(.*\)\]/\2/p' <<<"$dynamic" | tr : '\n' | sed "s|\$ORIGIN|$(dirname "$1")|")
	for name in $(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic"); do
		while read -r folder; do
			if [[ -n $folder && -e $folder/$name && -z ${seen[$name]:-} ]]; then
				seen[$name]=yes
				found+=("$folder/$name")
				libraries "$folder/$name"
				break
			fi
		done <<<"$folders"
	done
}

for image in "$@"; do
	program=${image%-cuda}
	root=$to/$image
	mkdir -p "$root/usr/local/bin" "$root/usr/lib"
	objcopy --only-keep-debug "$from/$program" "$to/debug/$image.debug"
	objcopy --strip-all --add-gnu-debuglink="$to/debug/$image.debug" "$from/$program" "$root/usr/local/bin/$program"
	declare -A seen=()
	declare -a found=()
	libraries "$from/$program"
	if [[ $image == *-cuda ]]; then
		# CUDA's libraries load others by name while they run, so all of them go along, laid out as their own paths expect.
		cuda=
		for library in "${found[@]}"; do
			[[ $library != */libtorch_cuda.so ]] || cuda=$(realpath "$(dirname "$library")/../..")
		done
		if [[ -z $cuda ]]; then
			echo "deploy/stage.sh: $from/$program was not built with the libtorch of \`make libtorch-cuda\`" >&2
			exit 1
		fi
		mkdir -p "$root/opt/libtorch-cuda/torch"
		for folder in torch/lib nvidia; do
			cp --archive --link "$cuda/$folder" "$root/opt/libtorch-cuda/$folder" 2>/dev/null ||
				cp --archive "$cuda/$folder" "$root/opt/libtorch-cuda/$folder"
		done
		continue
	fi
	for library in "${found[@]}"; do
		take "$library" "$root/usr/lib/$(basename "$library")"
		if [[ $library == */libmujoco.so* ]]; then
			mkdir -p "$root/usr/share/sapex"
			cp --recursive "$(dirname "$library")/../models" "$root/usr/share/sapex/mujoco"
		fi
	done
done
