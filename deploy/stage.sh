#!/usr/bin/env bash
# Writes the files of each image to a folder: the program without debug information, and the libraries that the program
# finds only on the machine where it was built.
# Usage: deploy/stage.sh FROM TO IMAGE...
# FROM holds the programs. The files of an image go to TO/IMAGE, its debug information to TO/debug/IMAGE.debug.
set -euo pipefail
from=$1
to=$2
shift 2
rm -rf "$to"
mkdir -p "$to/debug"

# Libraries are up to half a gigabyte. They are hard-linked if the file system allows it, else copied.
take() {
	ln --logical --force "$1" "$2" 2>/dev/null || cp --dereference "$1" "$2"
}

# Appends to `found` the libraries that ELF file $1 loads from its own search paths, and recursively their libraries.
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
		# CUDA's libraries load others by name at run time. So all of them are included, in the layout that their search paths
		# expect.
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
