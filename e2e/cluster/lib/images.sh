# shellcheck shell=bash
# Images get into the node's containerd from archives; there is no registry.

# load_archive: from standard input. Waits until the kubelet can see the image:
# containerd tells its Kubernetes side a moment after the import.
load_archive() {
  local reference
  while read -r _ reference _; do
    wait_until 10 "containerd offers $reference" image_offered "$reference"
    printf '%s\n' "$reference"
  done < <(in_node ctr --namespace k8s.io images import - | grep '^unpacking ')
}

image_offered() {
  in_node ctr --namespace k8s.io images list "name==$1" | grep -q io.cri-containerd.image=managed
}

# busybox_root FOLDER: a root file system with busybox under all its names.
busybox_root() {
  local applet
  mkdir -p "$1"/{bin,etc,tmp}
  chmod 1777 "$1/tmp"
  cp "$(command -v busybox)" "$1/bin/busybox"
  while read -r applet; do
    [[ $applet == busybox ]] || ln -s busybox "$1/bin/$applet"
  done < <(busybox --list)
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$1/etc/group"
}

# load_base_images: what holds a pod's namespaces, and a shell for tests' pods.
load_base_images() (
  image_offered deputy.local/pause:1 && image_offered deputy.local/busybox:1 && return
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  busybox_root "$work/root"
  # As PID 1 of a shared process namespace, pause must reap; waiting, sh does.
  # shellcheck disable=SC2016
  "$cluster_dir/make-image" deputy.local/pause:1 "$work/root" \
    /bin/sh -c 'trap exit TERM; while :; do sleep 2147483647 & wait $!; done' | load_archive
  "$cluster_dir/make-image" --cmd deputy.local/busybox:1 "$work/root" /bin/sh | load_archive
)
