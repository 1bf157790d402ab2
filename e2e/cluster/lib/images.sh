# shellcheck shell=bash
# Images get into the node's containerd from archives; there is no registry.

# load_archive: from standard input. Waits until the kubelet can see the image:
# containerd tells its Kubernetes side a moment after the import.
load_archive() {
  local said word reference
  said=$(in_node ctr --namespace k8s.io images import -) || return
  while read -r word reference _; do
    [[ $word == unpacking ]] || continue
    wait_until 10 "containerd offers $reference" image_offered "$reference"
    printf '%s\n' "$reference"
  done <<< "$said"
}

image_offered() {
  [[ $(in_node ctr --namespace k8s.io images list "name==$1") == *io.cri-containerd.image=managed* ]]
}

# load_file ARCHIVE: into the cluster that CLUSTER names.
load_file() {
  case ${CLUSTER:-own} in
    own) load_archive < "$1" ;;
    kind) require_kind && kind load image-archive "$1" --name "$cluster_name" ;;
    *) die "CLUSTER=$CLUSTER: images get into that cluster through its registry" ;;
  esac
}

# with_busybox COMMAND...: calls it with a folder that is a root file system with
# busybox under all its names.
with_busybox() (
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  chmod 0755 "$root"
  mkdir -p "$root"/{bin,etc,tmp}
  chmod 1777 "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
  while read -r applet; do
    [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
  done < <(busybox --list)
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
  "$@" "$root"
)

# pause_image FOLDER: what holds a pod's namespaces. As PID 1 of a process
# namespace that containers share it must reap, and a waiting sh does.
# shellcheck disable=SC2016
pause_image() {
  "$cluster_dir/make-image" deputy.local/pause:1 "$1" \
    /bin/sh -c 'trap exit TERM; while :; do sleep 2147483647 & wait $!; done'
}

# busybox_image FOLDER: a shell for tests' pods.
busybox_image() { "$cluster_dir/make-image" --cmd deputy.local/busybox:1 "$1" /bin/sh; }

load_base_images() {
  image_offered deputy.local/pause:1 || with_busybox pause_image | load_archive
  image_offered deputy.local/busybox:1 || with_busybox busybox_image | load_archive
}

# load_busybox: where the cluster brings its own pause image.
load_busybox() (
  archive=$(mktemp)
  trap 'rm -f "$archive"' EXIT
  with_busybox busybox_image > "$archive"
  load_file "$archive"
)
