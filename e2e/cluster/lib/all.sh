# shellcheck shell=bash
# All of it, for the commands that need all of it.

# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=tools.sh
source "$cluster_dir/lib/tools.sh"
# shellcheck source=packages.sh
source "$cluster_dir/lib/packages.sh"
# shellcheck source=node.sh
source "$cluster_dir/lib/node.sh"
# shellcheck source=pki.sh
source "$cluster_dir/lib/pki.sh"
# shellcheck source=config.sh
source "$cluster_dir/lib/config.sh"
# shellcheck source=images.sh
source "$cluster_dir/lib/images.sh"
# shellcheck source=volumes.sh
source "$cluster_dir/lib/volumes.sh"
# shellcheck source=components.sh
source "$cluster_dir/lib/components.sh"
# shellcheck source=kind.sh
source "$cluster_dir/lib/kind.sh"

# What kubectl and helm remember about the API of our own cluster goes with it.
kubectl_cache=$state_dir/kubectl-cache

# Our own cluster, whatever kubeconfig the caller has.
kubectl() { KUBECONFIG=$state_dir/kubeconfig KUBECACHEDIR=$kubectl_cache "$(tool_path kubectl)" --request-timeout=10s "$@"; }

# One command at a time. The lock is on a folder that is there anyway and goes
# with the process that holds it.
lock_cluster() {
  exec 9< "$cluster_dir"
  flock --nonblock 9 && return
  step 'another command works on this cluster: wait for it' flock --wait 300 9
}

# tidy_state: takes the state folder away if nothing is in it.
tidy_state() { [[ ! -d $state_dir ]] || rmdir --ignore-fail-on-non-empty "$state_dir"; }

remove_cluster() {
  node_destroy
  # Nothing is mounted there any more; if it were, it would not be ours to empty.
  rm -rf --one-file-system "$state_dir"
}
